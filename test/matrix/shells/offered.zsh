# What zsh offers for lines whose last word is being typed: each word on a line of its own, and "." after those of a line.
# Arguments: the folder of the completion script, and the lines. zsh completes where somebody types, and nowhere else: hence
# the shell in a pseudo-terminal, which tells what it offers by a pipe.
zmodload zsh/zpty
folder=$1
shift
mkfifo $folder/offered
exec {said}<>$folder/offered
zpty typed zsh -f -i
zpty -w typed "exec {said}>${(q)folder}/offered; PROMPT=; setopt interactivecomments"
zpty -w typed "fpath=(${(q)folder} \$fpath); autoload -Uz compinit; compinit -D -u"
zpty -w typed '
compadd() {
  # Some calls only tell the function that asked what fits.
  if [[ -z ${(M)@[1,(i)(-|--)]:#-*[OAD]} ]]; then
    local -a fit
    builtin compadd -O fit "$@"
    (( $#fit )) && print -rlu $said -- $fit
  fi
  builtin compadd "$@"
}
ask() { _main_complete; compstate[insert]=; compstate[list]=; print -ru $said . }
zle -C ask complete-word ask; bindkey "^I" ask; print -ru $said ready'
read -ru $said word
for line; do
  zpty -w -n typed "$line"$'\t'
  while read -ru $said word && print -r -- $word && [[ $word != . ]]; do :; done
  zpty -w -n typed $'\025'
  while zpty -r -t typed word; do :; done
done
zpty -d typed
