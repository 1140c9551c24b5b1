#!/usr/bin/env bash
# Opens the published test vectors with programs that share no code with the workspace:
# every tests/independent/NAME.py is run as `NAME.py check docs/vectors/NAME-*.json`.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0
while IFS= read -r check; do
    vectors=(docs/vectors/"$(basename "$check" .py)"-*.json)
    [ -e "${vectors[0]}" ] || { echo "$check: no vectors at ${vectors[0]}" >&2; exit 1; }
    echo "$check check ${vectors[*]}"
    .tools/venv/bin/python -B "$check" check "${vectors[@]}"
    passed=$((passed + 1))
done < <(git ls-files --cached --others --exclude-standard 'tests/independent/*.py' '*/tests/independent/*.py')

((passed)) || { echo "no independent check was found" >&2; exit 1; }
echo "independent checks: $passed passed"
