#!/usr/bin/env bash
# Builds a program of the sandbox: build.sh OUTPUT PACKAGE [FLAGS]. The first time
# it prints how many packages are compiled of the ones that the build cache does not
# have, and about how long the rest takes. Later builds take seconds and print
# nothing.
set -euo pipefail
cd "$(dirname "$0")/../sandbox"
output=../$1 package=$2
shift 2
go=${GO:-go}

if [ -e "$output" ]; then
  exec "$go" build "$@" -o "$output" "$package"
fi
name=$(basename "$output")
echo "$name: downloading Go modules, then compiling" >&2
tags=()
for flag in "$@"; do
  case $flag in -tags) tags=(-tags) ;; -*) ;; *) [ ${#tags[@]} -eq 1 ] && tags+=("$flag") ;; esac
done
# A package that is in the build cache is not stale, and go build -v does not name it.
total=$("$go" list -deps -f '{{if .Stale}}{{.ImportPath}}{{end}}' ${tags[@]+"${tags[@]}"} "$package" | grep -c . || true)

# progress counts the packages that go build -v names, and passes messages on.
progress() {
  local done=0 shown=$SECONDS begun=$SECONDS line spent left
  while IFS= read -r line; do
    case $line in
      *' '*)
        echo "$line"
        continue
        ;;
    esac
    done=$((done + 1)) spent=$((SECONDS - begun))
    if [ $((SECONDS - shown)) -lt "$interval" ] && [ "$done" -lt "$total" ]; then continue; fi
    shown=$SECONDS left=$((done < total ? spent * (total - done) / done : 0))
    printf "$format" "$name" "$done" "$total" $((spent / 60)) $((spent % 60)) $((left / 60)) $((left % 60))
  done
  if [ "$interval" -eq 1 ]; then echo; fi
}
text='%s: %d of %d packages, %d:%02d so far, about %d:%02d left'
interval=15 format="$text\n"
if [ -t 2 ]; then interval=1 format="\r$text\033[K"; fi
"$go" build -v "$@" -o "$output" "$package" 2> >(progress >&2)
wait # for the last line of the progress
