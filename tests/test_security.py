"""No code out of files, no shell text out of data, no server for others: read from the source itself."""

import ast

import pytest

FORBIDDEN = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",  # code out of files
    "telnetlib", "ftplib", "xmlrpc", "socketserver",  # servers and plain-text protocols
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def sources(root):
    files = sorted((root / "src").rglob("*.py"))
    assert len(files) > 50
    return [(path, ast.parse(path.read_text())) for path in files]


def calls(tree):
    """(dotted name, {keyword: value}) of each call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def test_nothing_that_unpickles_is_imported(root):
    for path, tree in sources(root):
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            assert not {name.split(".")[0] for name in names} & FORBIDDEN, path


def test_files_are_loaded_without_code(root):
    loads = []
    for path, tree in sources(root):
        for name, words in calls(tree):
            if name == "torch.load":
                assert words.get("weights_only") == "True", path
                loads.append(path)
            assert words.get("allow_pickle", "False") == "False", path
            assert not (name.startswith("np.") and name.endswith(".load")), path
            assert name not in ("pd.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load"), path
            assert words.get("weights_only", "True") == "True", path
    assert loads  # the test looks at what is there


def test_no_shell_and_no_evaluation(root):
    for path, tree in sources(root):
        for name, words in calls(tree):
            assert name not in CALLS and name not in SHELLS, f"{path}: {name}"
            assert words.get("shell", "False") == "False", path


def test_rules_quote_what_is_not_their_own(root):
    """Texts and file names of a user stand in a shell command as `:q` or through config.options, which quotes."""
    text = "\n".join(path.read_text() for path in (root / "workflow/rules").glob("*.smk"))
    assert "{input:q}" in text.split("rule ingest:")[1].split("\nrule ")[0].split("\ncheckpoint ")[0]
    for name in ("{params.text", "{params.settings"):
        for use in text.split(name)[1:]:
            plain = name == "{params.settings" and use.startswith("}")  # made by config.options
            assert use.startswith(":q}") or plain, use[:40]
    shells = [line for line in text.splitlines() if line.strip().startswith(("shell:", '"censusformer', '" --'))]
    assert shells and not any("config[" in line or "cfg(" in line for line in shells)


SERVERS = ("HTTPServer", "ThreadingHTTPServer", "ThreadedMotoServer", "_Server", "create_server", "bind")


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks"])
def test_servers_bind_to_the_loopback(root, folder):
    found = []
    for path in sorted((root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SERVERS:
                found.append(path)
                assert "127.0.0.1" in ast.unparse(node.args[0]), f"{path}: {ast.unparse(node)}"
    assert folder != "tests" or len(found) > 3
