# shellcheck shell=bash
# Templates: @NAME@ becomes the value given for NAME, or else that of the variable NAME (the ports).

# render TEMPLATE FILE [NAME=VALUE]...
render() {
    local template=$1 file=$2 text name given
    local -A values=()
    shift 2
    for given in "$@"; do
        values[${given%%=*}]=${given#*=}
    done
    text=$(<"$template")
    while [[ $text =~ @([A-Z_]+)@ ]]; do
        name=${BASH_REMATCH[1]}
        [[ -v values[$name] || -v $name ]] || fail 70 "$template names @$name@, which nothing sets"
        text=${text//"@$name@"/"${values[$name]-${!name-}}"}
    done
    write_if_changed "$file" "$text"
}

# write_if_changed FILE TEXT: a file that says the same already keeps its time
write_if_changed() {
    [[ ! -f $1 || $(<"$1") != "$2" ]] || return 0
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}
