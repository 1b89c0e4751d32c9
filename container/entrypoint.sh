#!/bin/sh
# `docker run IMAGE train --config c.json` is `python train.py --config c.json`.
set -eu

app=$(dirname "$(dirname "$(readlink -f "$0")")")
program=${1:-}
program=${program%.py}
case $program in
    train | inference | evaluate | check | convert | export | serve) ;;
    *)
        echo "expected one of train, inference, evaluate, check, convert, export, serve, and its options;" \
            "each answers --help" >&2
        exit 2
        ;;
esac
shift
if [ "$program" = serve ]; then
    # A container's own localhost cannot be reached from outside; --host in the call wins.
    set -- --host 0.0.0.0 "$@"
fi
exec python "$app/$program.py" "$@"
