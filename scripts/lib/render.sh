# shellcheck shell=bash
# Templates: @NAME@ becomes the shell variable NAME; one that is not set is an error.

# render TEMPLATE FILE: leaves FILE alone where nothing changed
render() {
    local text name
    text=$(<"$1")
    while [[ $text =~ @([A-Z_]+)@ ]]; do
        name=${BASH_REMATCH[1]}
        [[ -v $name ]] || fail 70 "$1 names @$name@, which nothing sets"
        text=${text//"@$name@"/"${!name}"}
    done
    write_if_changed "$2" "$text"
}

write_if_changed() {
    [[ ! -f $1 || $(<"$1") != "$2" ]] || return 0
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}
