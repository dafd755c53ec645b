"""Sessions for people who work on quantlab: `nox` runs what CI runs, piece by piece."""

import nox

nox.options.sessions = ["lint", "types", "tests", "docs"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types."""
    session.install("-e", ".[all,test]")
    session.run("mypy")


@nox.session
@nox.parametrize("kernels", ["auto", "numpy"])
def tests(session: nox.Session, kernels: str) -> None:
    """Everything under tests/, and the doctests, with and without compiled kernels."""
    session.install("-e", ".[all,test]")
    session.run("pytest", *session.posargs, env={"QUANTLAB_KERNELS": kernels})


@nox.session
def explore(session: nox.Session) -> None:
    """The laws of the tests on other examples each time, and on more where a law names no number."""
    session.install("-e", ".[all,test]")
    session.run("pytest", "tests", "--hypothesis-profile=explore", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as HTML."""
    session.install("-e", ".[all,test]")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Kernels against their peers."""
    session.install("-e", ".[all,test]")
    session.run("pytest", "benchmarks", "--benchmark-only", *session.posargs)
