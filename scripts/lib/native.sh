# shellcheck shell=bash
# All that the commands need which work on servers without Docker.
for library in ports state render packages python java fetch programs supervisor wait; do
    # shellcheck source=/dev/null
    source "$ROOT/scripts/lib/$library.sh"
done
