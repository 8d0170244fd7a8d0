#!/usr/bin/env python3
"""Compares the manual with the help of the command line: every command, argument and option of
`veneer ... --help` has its place in a page, and the pages have no others.

usage: check_man_pages.py VENEER DIRECTORY      prints what differs; exits with 1 if anything does

A page has a command as an item of a list, `.It Cm save Ar image Op Fl o Ar file`. Its arguments are
those of the help, in that order. Its options are in the item or in the text up to the next one, as
`.Fl -long` and `.Fl x`; so are, as `.Cm`, the words that an option chooses from. Options before the
command are items, `.It Fl -json`.
"""

import pathlib
import re
import subprocess
import sys

# Which page has the commands of which command.
PAGES = {"": "veneer.1", "driver": "veneer-driver.1", "layer": "veneer-layer.1"}
# Every command has it; the manual says so once.
EVERYWHERE = {"h", "help"}


class Help:
    """What `veneer COMMAND... --help` says."""

    def __init__(self, veneer, path):
        text = subprocess.run([veneer, *path, "--help"], check=True, capture_output=True,
                              text=True).stdout
        self.commands, self.options, self.choices, self.arguments = set(), set(), set(), []
        usage, *lines = text.splitlines()[1:]
        self.optional = set(re.findall(r"\[([A-Z]+)", usage)) - {"OPTIONS"}
        section = ""
        for line in lines:
            if re.fullmatch(r"\S.*:", line):
                section = line[:-1]
            elif re.match("  [^ ]", line) and section != "Example":
                self.add(section, re.split(r"  +", line.strip())[0])

    def add(self, section, what):
        if section == "Positionals":
            self.arguments += re.findall("[A-Z]+", what)
            self.optional.update(re.findall(r"\[([A-Z]+)", what))
        elif section == "Options":
            names, _, value = what.partition(" ")
            self.options.update(name.lstrip("-") for name in names.split(","))
            if "|" in value:
                self.choices.update(value.split("|"))
        elif section:
            self.commands.add(what.split(",")[0])


class Page:
    """A page: what it says of each command, by its name, and the options before the command."""

    def __init__(self, path):
        self.items, self.own_options = {}, set()
        command, depth = "", 0
        for line in path.read_text().splitlines():
            depth += line.startswith(".Bl ") - line.startswith(".El")
            if depth == 0:
                command = ""
            elif depth == 1 and line.startswith(".It "):
                match = re.match(r"\.It Cm (\S+)", line)
                command = match.group(1) if match else ""
                if not match:
                    self.own_options.update(options_in(line))
            if command:
                self.items.setdefault(command, []).append(line)

    def options(self, command):
        return set().union(*(options_in(line) for line in self.items[command]))

    def words(self, command):
        return {word for line in self.items[command] for word in re.findall(r"\bCm (\S+)", line)}

    def arguments(self, command):
        """In capitals; and those of them that may be left out."""
        item = re.sub(r"(Op )?Fl \S+( Ar \S+)?", "", self.items[command][0])
        after = item.partition(" Ar ")[2]
        found = [word.upper() for word in after.split() if word.isalpha() and word.islower()]
        return found, {word.upper() for word in re.findall(r"Op Ar ([a-z]+)", item)}


def options_in(line):
    if not line.startswith("."):
        return set()
    return {name.lstrip("-") for name in re.findall(r"\bFl (\S+)", line)}


class Check:
    def __init__(self, veneer, directory):
        self.veneer = veneer
        self.directory = directory
        self.top_options = Help(veneer, []).options
        self.differences = []

    def compare(self, path, what, wanted, found):
        name = " ".join(["veneer", *path])
        self.differences += [f"{name}: the manual lacks the {what} {one}"
                             for one in sorted(wanted - found)]
        self.differences += [f"{name}: there is no {what} {one}, as the manual has it"
                             for one in sorted(found - wanted)]

    def check_group(self, group):
        path = [group] if group else []
        help_, page = Help(self.veneer, path), Page(self.directory / PAGES[group])
        expected = help_.options - EVERYWHERE if group else help_.options
        self.compare(path, "option", expected, page.own_options)
        self.compare(path, "command", help_.commands, set(page.items))
        for command in sorted(help_.commands & set(page.items) - set(PAGES)):
            self.check_command(path + [command], page)

    def check_command(self, path, page):
        help_ = Help(self.veneer, path)
        # The text may speak of options that all commands have.
        found = page.options(path[-1]) - (self.top_options - help_.options)
        self.compare(path, "option", help_.options - EVERYWHERE, found)
        self.compare(path, "word", help_.choices | help_.commands,
                     page.words(path[-1]) & (help_.choices | help_.commands))
        arguments, optional = page.arguments(path[-1])
        if (arguments, optional) != (help_.arguments, help_.optional):
            self.differences.append(f"veneer {' '.join(path)}: takes {help_.arguments}, in the "
                                    f"manual {arguments}, of which {optional} may be left out")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    check = Check(sys.argv[1], pathlib.Path(sys.argv[2]))
    for group in PAGES:
        check.check_group(group)
    print("\n".join(check.differences), end="\n" if check.differences else "")
    sys.exit(bool(check.differences))


if __name__ == "__main__":
    main()
