# shellcheck shell=bash
# All that the commands need which work on servers without Docker.
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/render.sh"
source "$ROOT/scripts/lib/packages.sh"
source "$ROOT/scripts/lib/python.sh"
source "$ROOT/scripts/lib/java.sh"
source "$ROOT/scripts/lib/fetch.sh"
source "$ROOT/scripts/lib/programs.sh"
source "$ROOT/scripts/lib/supervisor.sh"
source "$ROOT/scripts/lib/wait_for.sh"
