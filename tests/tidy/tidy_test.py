#!/usr/bin/env python3
"""The house rules that a compiler does not know, enforced over the source tree.

usage: tidy_test.py [ROOT]      checks the tree at ROOT (default: the one this file is in)
       tidy_test.py --self-test proves that every rule catches a violation, in a tree of its own
"""

import pathlib
import re
import sys
import tempfile

# Which directory of src/ may include, and link, which others. One library a directory.
MAY_INCLUDE = {
    "base": "",
    "stream": "base",
    "tar": "base stream",
    "erofs": "base",
    "mount": "base",
    "layer": "base stream tar erofs",
    "store": "base stream tar mount layer",
    "graphdriver": "base stream tar mount layer store",
    "image": "base stream tar store",
    "rpc": "base stream mount layer store graphdriver image",
    "bin": "base stream mount layer store graphdriver image rpc",
}

# Third-party headers, and the only files that may include them (a regular expression each).
HOMES = [
    (r"absl/synchronization/", r"src/rpc/server"),
    (r"absl/(?!synchronization/)", r"src/layer/(tree|made_names)"),
    (r"fmt/", r""),
    (r"openssl/", r"src/base/digest"),
    (r"isa-l/crc64\.h$", r"src/stream/checksum"),
    (r"(isa-l|isa-l/.*|igzip_lib|zstd|zstd_errors|lzma|lzma/.*|bzlib)\.h$", r"src/stream/compress"),
    (r"nlohmann/", r"src/(image|rpc)/"),
    (r"CLI/", r"src/bin/"),
    (r"sqlite3\.h$", r"src/store/meta"),
    (r"(grpc|grpcpp|google/protobuf)/|.*\.pb\.h$", r"src/rpc/"),
    (r"boost/", r"src/rpc/http_server\.cc$"),
    (r"(gtest|gmock)/", r"tests/|.*_test\.cc$|.*/test_\w+\.h$"),
    (r"benchmark/", r"bench/"),
]
# Its header takes seconds to compile, so each of its directories has it in one file.
ONE_FILE_A_DIRECTORY = "nlohmann/"
# Every limit on what comes from outside, and where people read of it.
LIMITS = "src/base/limits.h"
LIMITS_DOC = "docs/FORMAT.md"
SYSTEM_DIRECTORIES = {"arpa", "asm", "linux", "net", "netinet", "sys"}

# Calls that take a path: only src/base makes them, everything else goes through base/at.h.
PATH_CALLS = """creat chdir chmod chown fchmodat fchownat fdopendir fstatat freopen fopen getxattr
    lchown lgetxattr link linkat listxattr llistxattr lsetxattr lstat mkdir mkdirat mkdtemp mknod
    mknodat mkostemp mkstemp name_to_handle_at nftw open openat openat2 opendir popen readlink
    readlinkat realpath removexattr rename renameat renameat2 rmdir scandir setxattr stat statx
    symlink symlinkat system truncate unlink unlinkat utimensat utimes""".split()
# What mount points and mount ids are asked with.
MOUNT_CALLS = ["statx"]
# Words that a function of ours may bear: these count only as ::name( or std::name(.
ALSO_WORDS = "link mkdir readlink rename stat truncate symlink unlink".split()
UNCHECKED_CALLS = """atof atoi atol atoll gets scanf sprintf sscanf strcat strcpy strtod strtof
    strtol strtoll strtoul strtoull tmpnam vsprintf""".split()

MAX_COLUMNS = 100
MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70

TREES = ["src", "tests", "bench", "scripts", "cmake", "docs", ".ci"]
TOP_FILES = ["CMakeLists.txt", "CMakePresets.json", "Makefile", "README.md", ".clang-format",
             ".clang-tidy", ".gitignore"]
SAMPLES = re.compile(r"tests/(.*/)?(golden|corpus|data)/")
# Absolute: overlayfs has directories of that name below others.
OUTSIDE_PATH = re.compile(r"(?<![\w.}])/" r"work/")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")


def alternatives(words):
    return "(" + "|".join(words) + ")"


def calls(words, prefix):
    return re.compile(rf"(?<![\w.>:]){prefix}{alternatives(words)}\s*\(")


RAW_CALLS = [
    calls([word for word in PATH_CALLS if word not in ALSO_WORDS], r"(?:(?:std)?::)?"),
    calls(ALSO_WORDS, r"(?:std)?::"),
    re.compile(r"\bstd::(filesystem|w?[io]?fstream)\b"),
]
# A member of that name, with its type before it: the file calls its own.
DECLARED = re.compile(rf"(?!return|else|throw)\b\w+>?[\s&*]+{alternatives(PATH_CALLS)}\(")
UNCHECKED = calls(UNCHECKED_CALLS, r"(?:(?:std)?::)?")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
NOT_CODE = re.compile(
    r'R"(?P<mark>[^(\s"]*)\(.*?\)(?P=mark)"'  # raw string
    r'|//[^\n]*|/\*.*?\*/'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S)


def strip_code(text):
    """C++ without comments, and with empty literals; every line stays where it is."""
    def blank(match):
        whole = match.group(0)
        return ("" if whole.startswith("/") else '""') + "\n" * whole.count("\n")
    return NOT_CODE.sub(blank, text)


def functions(code):
    """The (first line, last line) of each function in stripped C++, lambdas inside not counted."""
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", code, flags=re.M)
    found, scopes = [], []
    statement, first, line, parens = "", 1, 1, 0
    for char in code:
        if char == "\n":
            line += 1
        inside = any(kind == "function" for kind, *_ in scopes)
        if char == "{":
            kind = "block" if inside else scope_kind(statement, parens)
            scopes.append((kind, first, statement, parens))
            statement, parens = "", 0
        elif char == "}" and scopes:
            kind, first_line, outer, outer_parens = scopes.pop()
            if kind == "function":
                found.append((first_line, line))
            # A braced initialiser is a part of the statement that it stands in.
            statement, first, parens = (outer + "{}", first_line, outer_parens) \
                if kind == "value" else ("", line, 0)
        elif char == ";" and parens == 0:
            statement = ""
        else:
            parens += {"(": 1, ")": -1}.get(char, 0)
            if not statement.strip():
                first = line
            statement += char
    return found


def scope_kind(statement, parens):
    """What a brace after `statement` opens: a namespace or class, a function, or a value."""
    text = re.sub(r"\boperator\s*(\(\)|[^\s\w(]+)", "operator_", statement)
    while (inner := re.sub(r"\([^()]*\)", "~", text)) != text:
        text = inner
    text = re.sub(r"\btemplate\s*<[^{}]*?>(?=\s*\w)", "", text).strip()
    if parens > 0 or "=" in text:
        return "value"
    if re.match(r"(\[\[.*\]\]\s*)?(inline\s+)?(namespace|extern|class|struct|union|enum)\b", text) \
            and not re.search(r"~\s*(const|noexcept|override)?$", text):
        return "scope"
    if "~" not in text:
        return "value" if text else "scope"
    # Of a constructor's initialisers, `a_{1}` has a brace after a name, the body has none.
    if re.search(r"~[^:]*:[^:]", text) and re.search(r"\w$", text):
        return "value"
    return "function"


class Tree:
    """The files of a source tree, and the violations found in them."""

    def __init__(self, root):
        self.root = root
        self.violations = []
        self.texts = {}
        for path in sorted(self.find()):
            name = path.relative_to(root).as_posix()
            if SAMPLES.match(name) or "__pycache__" in name:
                continue
            try:
                self.texts[name] = path.read_text()
            except UnicodeDecodeError:
                self.report(name, 1, "encoding", "is not UTF-8")

    def find(self):
        yield from (self.root / name for name in TOP_FILES if (self.root / name).is_file())
        for tree in TREES:
            yield from (path for path in (self.root / tree).rglob("*") if path.is_file())

    def report(self, name, line, rule, message):
        self.violations.append((name, line, rule, message))

    def report_matches(self, name, text, pattern, rule, message, own=()):
        for match in pattern.finditer(text):
            if pattern.groups and match.group(1) in own:
                continue
            line = text.count("\n", 0, match.start()) + 1
            self.report(name, line, rule, f"{match.group(0).strip()} {message}")

    def check(self):
        for name, text in self.texts.items():
            self.check_text(name, text)
            if name.endswith((".cc", ".h")):
                self.check_cxx(name, text)
        self.check_one_file_homes()
        self.check_modules()
        self.check_limits()
        return self.violations

    def check_text(self, name, text):
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                self.report(name, number, "trailing-space", "has trailing space")
            if "\t" in line and not name.endswith("Makefile"):
                self.report(name, number, "tab", "has a tab")
            if len(line) > MAX_COLUMNS and not name.endswith((".md", ".json")):
                self.report(name, number, "columns", f"has {len(line)} columns")
            if UNFINISHED.search(line):
                self.report(name, number, "unfinished", "has unfinished work")
            if OUTSIDE_PATH.search(line):
                self.report(name, number, "outside-path", "names a path outside the project")
        if text and not text.endswith("\n"):
            self.report(name, text.count("\n") + 1, "final-newline", "has no newline at its end")
        lines = text.count("\n")
        if lines > MAX_FILE_LINES and not name.endswith(".md"):
            self.report(name, 1, "file-lines", f"has {lines} lines")

    def check_cxx(self, name, text):
        code = strip_code(text)
        is_test = name.startswith("tests/") or name.endswith("_test.cc")
        if name.endswith(".h"):
            if not text.startswith("//"):
                self.report(name, 1, "header-comment", "does not start with a comment")
            if "\n#pragma once\n" not in text:
                self.report(name, 1, "pragma-once", "has no #pragma once")
        self.report_matches(name, code, re.compile(r"\busing\s+namespace\b"), "using-namespace",
                            "is not used here")
        self.report_matches(name, code, UNCHECKED, "unchecked-call",
                            "does not check: use std::from_chars, fmt or base")
        if name.startswith(("src/", "bench/")) and not name.startswith("src/base/") \
                and not is_test:
            own = set(DECLARED.findall(code))
            if name.startswith("src/mount/"):
                own.update(MOUNT_CALLS)
            for pattern in RAW_CALLS:
                self.report_matches(name, code, pattern, "raw-call", "belongs to src/base", own)
        for first, last in functions(code):
            if last - first + 1 > MAX_FUNCTION_LINES:
                self.report(name, first, "function-lines", f"has {last - first + 1} lines")
        self.check_includes(name, text)

    def check_includes(self, name, text):
        directory = name.split("/")[1] if name.startswith("src/") else None
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            quote, header = match.groups()
            above = header.split("/")[0]
            if quote == '"' and above in MAY_INCLUDE:
                if directory and above != directory \
                        and above not in MAY_INCLUDE.get(directory, "").split():
                    self.report(name, line, "include", f"{directory} may not include {above}")
                continue
            home = next((home for start, home in HOMES if re.match(start, header)), None)
            if home is not None:
                if not re.match(home, name):
                    self.report(name, line, "header-home", f"<{header}> has its home elsewhere")
            elif quote == "<" and "/" in header and above not in SYSTEM_DIRECTORIES:
                self.report(name, line, "header-home", f"<{header}> has no home in this test")

    def check_one_file_homes(self):
        seen = {}
        for name, text in self.texts.items():
            if name.endswith((".cc", ".h")) and f"<{ONE_FILE_A_DIRECTORY}" in text:
                directory = name.rsplit("/", 1)[0]
                if directory in seen:
                    self.report(name, 1, "header-home",
                                f"<{ONE_FILE_A_DIRECTORY}...> is in {seen[directory]} already")
                seen[directory] = name

    def check_modules(self):
        directories = {name.split("/")[1] for name in self.texts if name.count("/") > 1
                       and name.startswith("src/")}
        for directory in sorted(directories - set(MAY_INCLUDE)):
            self.report(f"src/{directory}", 1, "include", "is not in the table of this test")
        for directory in sorted(directories & set(MAY_INCLUDE)):
            name = f"src/{directory}/CMakeLists.txt"
            text = re.sub(r"#[^\n]*", "", self.texts.get(name, ""))
            words = set(re.findall(r"[\w.:/+-]+", text))
            # A library is named by its directory in LINK, and as veneer_<directory> elsewhere.
            linked = {word.removeprefix("veneer_") for word in words} & set(MAY_INCLUDE)
            for other in sorted(linked - {directory} - set(MAY_INCLUDE[directory].split())):
                self.report(name, 1, "link", f"{directory} may not link {other}")
            for source in self.texts:
                path = pathlib.PurePosixPath(source)
                if path.suffix == ".cc" and source.startswith(f"src/{directory}/") \
                        and path.relative_to(f"src/{directory}").as_posix() not in words:
                    self.report(source, 1, "unlisted", f"is not listed in {name}")

    def check_limits(self):
        """Each constant of the header of limits is in docs/FORMAT.md, and named in a test."""
        documented = dict(re.findall(r"^\| `(k\w+)` \| (\d+) \|", self.texts.get(LIMITS_DOC, ""),
                                     re.M))
        tests = "".join(text for name, text in self.texts.items()
                        if name.endswith("_test.cc") or re.match(r"tests/.*\.cc$", name))
        header = self.texts.get(LIMITS, "")
        limits = re.finditer(r"^inline constexpr \S+ (k\w+) =\s*(.*?);", header, re.M | re.S)
        for name, text, line in ((match[1], match[2], header.count("\n", 0, match.start()) + 1)
                                 for match in limits):
            number = re.sub(r"uint64_t\{(\w+)\}", r"\1", text).replace("'", "")
            if documented.pop(name, None) != str(eval(number, {})):
                self.report(LIMITS, line, "limit", f"{name} is not in {LIMITS_DOC} as it is here")
            if not re.search(rf"\blimits::{name}\b", tests):
                self.report(LIMITS, line, "limit", f"{name} is named in no test")
        for name in documented:
            self.report(LIMITS_DOC, 1, "limit", f"{name} is not in {LIMITS}")


# --- the self-test -----------------------------------------------------------------------------

GOOD = {
    "src/base/CMakeLists.txt":
        "veneer_module(base SOURCES at.cc TESTS at_test.cc limits_test.cc)\n",
    "src/base/at.h": "// System calls.\n#pragma once\n\nint open_it(const char* path);\n",
    "src/base/at.cc": '#include "base/at.h"\n\n#include <fcntl.h>\n\n'
                      "int open_it(const char* path) { return ::open(path, 0); }\n",
    "src/base/at_test.cc": '#include <gtest/gtest.h>\n\nTEST(At, Opens) { ::open("x", 0); }\n',
    "src/mount/CMakeLists.txt": "# Not store.\nveneer_module(mount SOURCES mount.cc LINK base)\n",
    "src/mount/mount.cc":
        '#include <sys/mount.h>\n\n#include <string>\n\n#include "base/at.h"\n\n'
        "// using namespace and open( are words here, and {\nnamespace veneer {\n\n"
        'const char* kText = "TEXT { sprintf( \\" }";\nconst char* kRaw = R"(open( " {)";\n'
        "struct Options {\n  int a = 1;\n  Options(int x) : a{x}, b(x) {\n    a = x;\n  }\n"
        "  bool operator==(const Options& other) const { return a == other.a; }\n"
        "  int b{2};\n};\n\n"
        "template <typename T, int N = 3>\nint use(T file, int x = 2) {\n"
        "  file.open(1'000);\n  x = '{' + file->stat(2);\n  rename(x);\n  return reopen(x);\n}\n\n"
        "}  // namespace veneer\n",
    "src/image/CMakeLists.txt": "veneer_module(image SOURCES json.cc LINK base stream tar store)\n",
    "src/image/json.cc": "#include <fmt/format.h>\n\n#include <nlohmann/json.hpp>\n",
    "tests/a_test.cc": "#include <gtest/gtest.h>\n\n#include <filesystem>\n\n"
                       '#include "store/local.h"\n\nstd::filesystem::path p;\n',
    LIMITS: "// Limits.\n#pragma once\n\ninline constexpr uint64_t kBytes = uint64_t{1} << 4;\n"
            "inline constexpr int kNames =\n    1'000;\n",
    LIMITS_DOC: "| `kBytes` | 16 | bytes |\n| `kNames` | 1000 | names |\n",
    "src/base/limits_test.cc": "int x = limits::kBytes + limits::kNames;\n",
    "Makefile": "all:\n\ttrue\n",
    "scripts/run": "#!/bin/sh\nmktemp /tmp/XXXXXX\n",
}


def long_function(lines, indent=""):
    body = f"{indent}  a = {{1}};\n" * (lines - 3)
    return f"{indent}int f(int a,\n{indent}      int b) {{\n{body}{indent}}}\n"


# rule -> files that break it when they are added to the good tree, or replace a file of it.
BAD = [
    ("include", {"src/mount/mount.cc": '#include "store/local.h"\n'}),
    ("include", {"src/base/at.cc": '#include "tar/reader.h"\n'}),
    ("include", {"src/cellar/CMakeLists.txt": "\n"}),
    ("link", {"src/mount/CMakeLists.txt": "veneer_module(mount SOURCES mount.cc LINK tar)\n"}),
    ("link", {"src/mount/CMakeLists.txt": "target_link_libraries(x veneer_rpc) # mount.cc\n"
                                          "veneer_module(mount SOURCES mount.cc)\n"}),
    ("unlisted", {"src/mount/new.cc": "int x;\n"}),
    ("unlisted", {"src/mount/CMakeLists.txt": "# mount.cc\nveneer_module(mount)\n"}),
    ("header-home", {"src/base/at.cc": "#include <openssl/evp.h>\n"}),
    ("header-home", {"src/image/json.cc": "#include <zstd.h>\n"}),
    ("header-home", {"src/image/json.cc": "#include <isa-l/igzip_lib.h>\n"}),
    ("header-home", {"src/image/json.cc": "#include <isa-l/crc64.h>\n"}),
    ("header-home", {"src/mount/mount.cc": "#include <nlohmann/json.hpp>\n"}),
    ("header-home", {"src/image/CMakeLists.txt": "json.cc two.cc\n",
                     "src/image/two.cc": "#include <nlohmann/json.hpp>\n"}),
    ("header-home", {"src/image/json.cc": "#include <CLI/CLI.hpp>\n"}),
    ("header-home", {"src/image/json.cc": "#include <sqlite3.h>\n"}),
    ("header-home", {"src/image/json.cc": "#include <grpcpp/grpcpp.h>\n"}),
    ("header-home", {"src/image/json.cc": '#include "snapshots.pb.h"\n'}),
    ("header-home", {"src/mount/mount.cc": "#include <gtest/gtest.h>\n"}),
    ("header-home", {"src/mount/mount.cc": "#include <boost/asio.hpp>\n"}),
    ("using-namespace", {"tests/a_test.cc": "using namespace veneer;\n"}),
    ("unchecked-call", {"src/base/at.cc": "int x = std::atoi(y);\n"}),
    ("unchecked-call", {"src/base/at.cc": "int x = strtol(y, 0, 10);\n"}),
    ("unchecked-call", {"tests/a_test.cc": "void f() { strcpy(a, b); }\n"}),
    ("unchecked-call", {"tests/a_test.cc": "void f() { sprintf(a, b); }\n"}),
    ("tab", {"src/base/at.cc": "\tint x;\n"}),
    ("trailing-space", {"src/base/at.cc": "int x; \n"}),
    ("columns", {"src/base/at.cc": "// " + "x" * 98 + "\n"}),
    ("final-newline", {"src/base/at.cc": "int x;"}),
    ("unfinished", {"scripts/run": "# TO" "DO: more\n"}),
    ("unfinished", {"src/base/at.cc": "// FIX" "ME\n"}),
    ("unfinished", {"src/base/at.cc": "// X" "XX\n"}),
    ("outside-path", {"scripts/run": "cd /" "work/main\n"}),
    ("file-lines", {"src/base/at.cc": "int x;\n" * (MAX_FILE_LINES + 1)}),
    ("function-lines", {"src/base/at.cc": long_function(MAX_FUNCTION_LINES + 1)}),
    ("function-lines", {"src/base/at.cc": "namespace a {\nclass B : public C {\n  int x;\n\n" +
                        long_function(MAX_FUNCTION_LINES + 1, "  ") + "};\n}\n"}),
    ("function-lines", {"src/base/at.cc": "A::A(int x) : a_{x}, b_(x), c_{} {\n" +
                                          "  if (x) {\n  }\n" * (MAX_FUNCTION_LINES // 2) + "}\n"}),
    ("limit", {LIMITS_DOC: "| `kBytes` | 16 | bytes |\n| `kNames` | 1001 | names |\n"}),
    ("limit", {LIMITS_DOC: "| `kBytes` | 16 | bytes |\n"}),
    ("limit", {LIMITS_DOC: GOOD[LIMITS_DOC] + "| `kMore` | 7 | others |\n"}),
    ("limit", {"src/base/limits_test.cc": "int x = limits::kBytes;\n"}),
    ("header-comment", {"src/base/at.h": "#pragma once\n\n#pragma once\n"}),
    ("pragma-once", {"src/base/at.h": "// A header.\n"}),
] + [("raw-call", {"src/mount/mount.cc": f"void f() {{ {text} }}\n"}) for text in [
    "int fd = open(p, 0);", "return open(p, 0);", "::openat(fd, p, 0);", "::mkdir(p, 0);",
    "::unlink(p);", "std::rename(a, b);", "::stat(p, &s);", "if (!fopen(p, m)) return;",
    "system(p);", "::popen(p, m);", "std::filesystem::remove(p);", "std::ifstream in(p);",
    "std::ofstream out(p);", "auto d = opendir(p);", "unlinkat(fd, p, 0);",
    "::statx(fd, p, 0, 0, &s); ::lstat(p, &s);"]]
BAD.append(("raw-call", {"src/image/json.cc": "void f() { ::statx(fd, p, 0, 0, &s); }\n"}))
FITS = [
    {"src/base/at.cc": long_function(MAX_FUNCTION_LINES)},
    {"src/base/at.cc": "int x;\n" * MAX_FILE_LINES},
    {"src/base/at.cc": "// " + "x" * 97 + "\n"},
    {"src/mount/mount.cc": "int open(int a);\nint f() { return open(1); }\n"},
    {"src/mount/mount.cc": "void f() { ::statx(1); }\n"},
    {"scripts/run": "ls id/work/work\n"},
    {"src/mount/test_mounts.h": "// Shared.\n#pragma once\n#include <gtest/gtest.h>\n"},
    {"src/base/at.cc": "int kTable[] = {\n" + "  1,\n" * 100 + "};\n"},
]


def violations_of(files):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return Tree(root).check()


def self_test():
    failures = []
    for files in [{}] + FITS:
        if found := violations_of({**GOOD, **files}):
            failures.append(f"good code, {list(files)}: {found}")
    for rule, files in BAD:
        found = {violation[2] for violation in violations_of({**GOOD, **files})}
        if found != {rule}:
            failures.append(f"{rule}, {files}: found {found or 'nothing'}"[:300])
    return failures


def main():
    if sys.argv[1:] == ["--self-test"]:
        failures = self_test()
        print("\n".join(failures) or f"ok, {len(BAD)} violations caught")
        return bool(failures)
    here = pathlib.Path(__file__).resolve().parents[2]
    tree = Tree(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here)
    violations = tree.check()
    for name, line, rule, message in violations:
        print(f"{name}:{line}: {rule}: {message}")
    print(f"{len(tree.texts)} files, {len(violations)} violations")
    return bool(violations) or not tree.texts


sys.exit(main())
