#!/usr/bin/env bash
# The compose files and Dockerfiles, without an engine: accepted by compose, true to the schema, clean to hadolint and compose-lint, and
# in keeping with the rest of the repository. What the services are told is held against what they take by
# crates/e2e/tests/compose_environment.rs.
source "$(dirname "$0")/lib/base.sh"
for library in packages python fetch; do
    # shellcheck source=/dev/null
    source "$ROOT/scripts/lib/$library.sh"
done

BASE=docker-compose.yml
OVERRIDE=docker-compose.override.yaml
export PYTHONDONTWRITEBYTECODE=1

# What somebody has in .env or in the environment is not what is checked.
compose() {
    env --ignore-environment PATH="$PATH" HOME="${HOME:-/root}" \
        "$VENV/bin/docker-compose" --env-file /dev/null --project-directory . --profile '*' "$@"
}

check() {
    local name=$1 output
    shift
    output=$("$@" 2>&1) || fail 1 "$name:" "$output"
    say "  $name"
}

cd "$ROOT"
require_programs "checking the compose files" python3-venv=python3-venv
venv compose
check "compose takes $BASE" compose --file "$BASE" config --quiet
check "compose takes $BASE with $OVERRIDE" compose --file "$BASE" --file "$OVERRIDE" config --quiet
check "both follow the compose schema" "$VENV/bin/check-jsonschema" --builtin-schema vendor.compose-spec "$BASE" "$OVERRIDE"
check "hadolint has nothing to say" "$VENV/bin/hadolint" --failure-threshold style Dockerfile connect/Dockerfile
check "compose-lint has nothing to say" \
    "$VENV/bin/compose-lint" check --fail-on low --strict-config --no-env --config scripts/compose/lint.yml "$BASE"
merged=$(mktemp)
trap 'rm -f "$merged"' EXIT
compose --file "$BASE" --file "$OVERRIDE" config --format json >"$merged"
check "both keep our own rules" "$VENV/bin/python" scripts/compose/rules.py "$merged"
