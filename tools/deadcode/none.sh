#!/bin/sh
# Runs a command, and fails if the command fails or prints anything.
out=$("$@") || exit
if [ -n "$out" ]; then
	echo "$out" >&2
	exit 1
fi
