"""Completion of verbs and names in bash and zsh."""

from __future__ import annotations

from collections.abc import Sequence

SHELLS = ("bash", "zsh")

_BASH = """\
# eval "$(ginkgo completion bash)"
_ginkgo() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" verb="${{COMP_WORDS[1]}}" kind
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
        return
    fi
    if [ "${{COMP_WORDS[COMP_CWORD-1]}}" = --to ]; then
        COMPREPLY=($(compgen -W "$(ginkgo completion node 2>/dev/null)" -- "$word"))
        return
    fi
    case "$verb" in
        {portfolio}) kind=portfolio ;;
        {node}) kind=node ;;
        *) return ;;
    esac
    COMPREPLY=($(compgen -W "$(ginkgo completion "$kind" 2>/dev/null)" -- "$word"))
}}
complete -F _ginkgo ginkgo"""


def script(shell: str, verbs: Sequence[tuple[str, str]]) -> str:
    """Return the completion script. zsh runs the script of bash.

    `verbs`: each verb, and the kind of names that it takes, "" for none.
    """
    text = _BASH.format(
        verbs=" ".join(verb for verb, _ in verbs),
        portfolio="|".join(verb for verb, kind in verbs if kind == "portfolio"),
        node="|".join(verb for verb, kind in verbs if kind == "node"),
    )
    if shell == "zsh":
        # The first line tells how to use the script, and names the shell.
        text = "autoload -U +X bashcompinit && bashcompinit\n" + text.replace("bash)", "zsh)", 1)
    return text
