/**
 * Scripts by which shells complete commands and options. They are made of what `--help` shows and of what is parsed, and
 * hold it all: no process is started while somebody types.
 */

import { type Options, parseOptions } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { MisuseError } from "./misuse.ts";
import { print, truncate } from "./terminal.ts";

const attempt = "Cannot print completion";

const options = {} as const;

export function createCompletion(commandsOf: () => Readonly<Record<string, CliCommand>>): CliCommand {
  return {
    summary: "prints a script by which a shell completes commands and options",
    options,
    takes: Object.keys(scripts),
    usage: `Usage: orchestratum completion bash|zsh|fish

Prints a script for the shell. It knows the commands and options of this release: print it anew after an upgrade.

Examples:
  orchestratum completion bash > ~/.local/share/bash-completion/completions/orchestratum
  orchestratum completion zsh > "\${fpath[1]}/_orchestratum"
  orchestratum completion fish > ~/.config/fish/completions/orchestratum.fish
  source <(orchestratum completion bash)
`,

    async run(args) {
      const { positionals } = parseOptions(attempt, args, options);
      const [shell, ...more] = positionals;
      const names = Object.keys(scripts);
      if (shell === undefined || more.length > 0) {
        throw new MisuseError(`${attempt}: one shell is wanted (${names.join(", ")}), got ${positionals.length}`);
      }
      const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined;
      if (script === undefined) {
        throw new MisuseError(`${attempt}: the shell must be one of ${names.join(", ")}, got "${shell}"`);
      }
      await print(script(describe(commandsOf())));
    },
  };
}

interface Described {
  readonly name: string;
  readonly summary: string;
  readonly takes: CliCommand["takes"];
  readonly options: readonly DescribedOption[];
}

interface DescribedOption {
  /** `--file` */
  readonly flag: string;
  readonly about: string;
  /** What follows it: nothing, files, some words, or anything. */
  readonly value: undefined | "files" | "anything" | readonly string[];
}

/** Options whose values a shell can know. */
const values: Readonly<Record<string, "files" | readonly string[]>> = {
  database: "files",
  file: "files",
  status: ["scheduled", "pending", "running", "succeeded", "failed", "cancelled", "timed_out", "not_found"],
};

function describe(commands: Readonly<Record<string, CliCommand>>): Described[] {
  return Object.entries(commands).map(([name, { summary, usage, options: own, takes }]) => ({
    name,
    summary,
    takes,
    options: [
      ...Object.entries(own as Options).map(
        ([option, { type }]): DescribedOption => ({
          flag: `--${option}`,
          about: aboutOf(usage, option),
          value: type === "boolean" ? undefined : (values[option] ?? "anything"),
        }),
      ),
      { flag: "--help", about: "prints how it is used", value: undefined },
    ],
  }));
}

/** What the help says of an option, as far as its first line goes, without its default. */
function aboutOf(usage: string, option: string): string {
  const lines = Array.from(usage.matchAll(/^ {2}(--[a-z-]+(?:, --[a-z-]+)*) {2,}(.*)$/gm));
  const [, , text = ""] = lines.find(([, flags = ""]) => flags.split(", ").includes(`--${option}`)) ?? [];
  return truncate(text.replace(/ \[[^\]]*\]$/, "").replace(/[,;:]$/, ""), 70);
}

/** What stands in a command's place, and what it does. */
const general: Readonly<Record<string, string>> = {
  help: "prints how a command is used",
  "--help": "prints how it is used",
  "--version": "tells the release",
};

const scripts: Readonly<Record<string, (commands: readonly Described[]) => string>> = { bash, zsh, fish };

/** Within single quotes. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const listOf = (words: readonly string[]): string => quoted(words.join(" "));

/** Without arrays of lines and the like: the bash of macOS is of 2007. */
function bash(commands: readonly Described[]): string {
  const cases = commands.map(({ name, options: own, takes }) => {
    const taking = own.filter(({ value }) => value !== undefined).map(({ flag }) => flag);
    const words = typeof takes === "object" ? ` words=${listOf(takes)}` : "";
    return `    ${name}) options=${listOf(own.map(({ flag }) => flag))} taking=${listOf(taking)}${words} ;;`;
  });
  const known = wordsOfOptions(commands).map(
    ([flag, words]) => `    ${flag}) COMPREPLY=($(compgen -W ${listOf(words)} -- "$word")); return ;;`,
  );
  const names = commands.map(({ name }) => name);
  return `# Completion of orchestratum for bash.
_orchestratum() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" options='' taking='' words=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W ${listOf([...names, ...Object.keys(general)])} -- "$word"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
    help) words=${listOf(names)} ;;
  esac
  case "$before" in
${known.join("\n")}
  esac
  # Of a value nothing is known: names of files are offered.
  case " $taking " in *" $before "*) return ;; esac
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
  esac
}
complete -o default -F _orchestratum orchestratum`;
}

function zsh(commands: readonly Described[]): string {
  /** Within a specification of _arguments brackets and colons have a meaning. */
  const told = (text: string): string => text.replaceAll(/[\\:[\]]/g, "\\$&");
  const specification = ({ flag, about, value }: DescribedOption): string => {
    const after =
      value === undefined
        ? ""
        : value === "files"
          ? ":file:_files"
          : value === "anything"
            ? ":value:"
            : `:value:(${value.join(" ")})`;
    return quoted(`${flag}[${told(about)}]${after}`);
  };
  /** Also where nothing is known of the words: after one that it was not told of, zsh offers no option. */
  const taken = (takes: CliCommand["takes"]): string =>
    quoted(takes === undefined ? "*:word:" : takes === "files" ? "*:file:_files" : `1:word:(${takes.join(" ")})`);
  const cases = commands.map(
    ({ name, options: own, takes }) =>
      `    ${name})\n      _arguments ${[...own.map(specification), taken(takes)].join(" \\\n        ")} ;;`,
  );
  const described = (names: readonly (readonly [string, string])[]): string =>
    names.map(([name, about]) => `    ${quoted(`${name}:${told(about)}`)}`).join("\n");
  return `#compdef orchestratum
# Completion of orchestratum for zsh.
_orchestratum() {
  local -a commands general
  commands=(
${described(commands.map(({ name, summary }) => [name, summary]))}
  )
  general=(
${described(Object.entries(general))}
  )
  if (( CURRENT == 2 )); then
    _describe command commands -- general
    return
  fi
  shift words
  (( CURRENT-- ))
  case "$words[1]" in
${cases.join("\n")}
    help) _describe command commands ;;
  esac
}
if [ "$funcstack[1]" = "_orchestratum" ]; then
  _orchestratum "$@"
else
  compdef _orchestratum orchestratum
fi`;
}

function fish(commands: readonly Described[]): string {
  const within = (name: string): string => `-n '__orchestratum_command_is ${name}'`;
  const lines = commands.flatMap(({ name, summary, options: own, takes }) => [
    `complete -c orchestratum -n __fish_use_subcommand -a ${name} -d ${fishQuoted(summary)}`,
    ...(takes === "files" ? [`complete -c orchestratum ${within(name)} -F`] : []),
    ...(typeof takes === "object"
      ? [`complete -c orchestratum ${within(name)} -a ${fishQuoted(takes.join(" "))}`]
      : []),
    ...own.map(({ flag, about, value }) => {
      const kind =
        value === undefined
          ? ""
          : value === "files"
            ? " -r -F"
            : value === "anything"
              ? " -x"
              : ` -x -a ${fishQuoted(value.join(" "))}`;
      return `complete -c orchestratum ${within(name)} -l ${flag.slice(2)}${kind} -d ${fishQuoted(about)}`;
    }),
  ]);
  const first = Object.entries(general).map(([word, about]) => {
    const kind = word.startsWith("--") ? `-l ${word.slice(2)}` : `-a ${word}`;
    return `complete -c orchestratum -n __fish_use_subcommand ${kind} -d ${fishQuoted(about)}`;
  });
  const names = commands.map(({ name }) => name);
  return `# Completion of orchestratum for fish.
function __orchestratum_command_is
    # The first word alone: a later one may be called like a command.
    set -l words (commandline -opc)
    test "$words[2]" = $argv[1]
end
complete -c orchestratum -f
${first.join("\n")}
complete -c orchestratum ${within("help")} -a ${fishQuoted(names.join(" "))}
${lines.join("\n")}`;
}

const fishQuoted = (text: string): string => `'${text.replaceAll(/[\\']/g, "\\$&")}'`;

/** Each option whose values are known, once. */
function wordsOfOptions(commands: readonly Described[]): [flag: string, words: readonly string[]][] {
  const found = new Map<string, readonly string[]>();
  for (const { flag, value } of commands.flatMap((command) => command.options)) {
    if (typeof value === "object") found.set(flag, value);
  }
  return [...found];
}
