# What fish offers for lines whose last word is being typed: each word on a line of its own, and "." after those of a line.
# Arguments: the folder of the completion script, and the lines.
set fish_complete_path $argv[1]
# Of what is no command fish loads no script.
function orchestratum
end
for line in $argv[2..]
    complete -C $line | string replace --regex '\t.*' ''
    echo .
end
