#!/bin/sh
# A hook of a quiesce profile that does what the file DIR/<member>-<phase> says, and writes down in DIR/log that it was run.
dir=$1
what=$VSNAPFS_MEMBER-$VSNAPFS_PHASE
echo "$what" >>"$dir/log"
how=
[ -e "$dir/$what" ] && read -r how <"$dir/$what"
case $how in
hang) exec sleep 60 ;;
fail) echo "cannot do $what"; exit 3 ;;
flood) exec yes "$what" ;;
fork) sleep 60 & ;;
stubborn) trap '' TERM INT HUP; sleep 60 & wait; sleep 60 ;;
wait)
    : >"$dir/reached"
    while [ ! -e "$dir/go" ]; do sleep 0.02; done
    ;;
esac
