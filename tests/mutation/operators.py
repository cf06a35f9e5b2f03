"""Finds the small changes that can be made to a module, and makes one of them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SHOWN_MAX = 110
"""Characters of the code around a change, which tell it from others."""

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}  # fmt: skip
SWAPPED_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
NOT_LOGIC = {"annotation", "returns", "decorator_list", "type_comment", "type_params"}

Put = Callable[[ast.AST], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change, named so that it is the same one when lines have moved."""

    module: str
    function: str
    """With its class; of a table or a field, the class or nothing."""
    before: str
    after: str
    nth: int
    """Of equal ones in the function, from 0."""
    at: int
    """Its place among the changes to this very source."""
    lines: tuple[int, int]
    """First and last of what is changed; a test that runs none of them cannot notice."""


@dataclass(frozen=True, slots=True)
class _Site:
    old: ast.AST
    new: ast.AST
    above: tuple[ast.AST, ...]
    put: Put


def find_mutants(module: str, source: str) -> list[Mutant]:
    """All changes to the source of this module, in order."""
    seen: Counter[tuple[str, str, str]] = Counter()
    found: list[Mutant] = []
    for at, site in enumerate(_sites(ast.parse(source))):
        shown = _shown(site)
        before = _text(shown)
        site.put(site.new)
        after = _text(site.new if shown is site.old else shown)
        site.put(site.old)
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        function = ".".join(each.name for each in (*site.above, site.old) if isinstance(each, scopes))
        found.append(Mutant(module, function, before, after, seen[function, before, after], at, _lines(site)))
        seen[function, before, after] += 1
    return found


def mutate(source: str, mutant: Mutant) -> ast.Module:
    """The tree of the source with this change made."""
    tree = ast.parse(source)
    for at, site in enumerate(_sites(tree)):
        if at == mutant.at:
            site.put(ast.copy_location(site.new, site.old))
            return ast.fix_missing_locations(tree)
    raise LookupError(f"the source has no change {mutant}")


def _lines(site: _Site) -> tuple[int, int]:
    node = next(each for each in (site.old, *reversed(site.above)) if hasattr(each, "lineno"))
    first = node.lineno
    return first, node.test.end_lineno if isinstance(node, ast.If | ast.While) else node.end_lineno


def _shown(site: _Site) -> ast.AST:
    """The change with as much around it as is short, up to its statement."""
    shown = site.old
    for each in reversed(() if isinstance(shown, ast.stmt) else site.above):
        if not isinstance(each, ast.expr | ast.keyword | ast.comprehension | ast.stmt):
            break
        if shown is not site.old and len(_text(each)) > SHOWN_MAX:
            break
        shown = each
        if isinstance(each, ast.stmt):
            break
    return shown


def _text(node: ast.AST) -> str:
    """As code on one line; of a statement with a body its head alone."""
    if isinstance(node, ast.stmt) and hasattr(node, "body"):
        gone = {"orelse": [], "finalbody": [], "handlers": [], "decorator_list": [], "body": [ast.Pass()]}
        kept = {name: gone.get(name, value) for name, value in ast.iter_fields(node)}
        node = ast.copy_location(type(node)(**kept), node)
    return " ".join(ast.unparse(node).split()).removesuffix(": pass")


def _sites(node: ast.AST, above: tuple[ast.AST, ...] = ()) -> Iterator[_Site]:
    above = (*above, node)
    for name, value in list(ast.iter_fields(node)):
        if name in NOT_LOGIC:
            continue
        if isinstance(value, ast.AST):
            yield from _around(value, above, lambda new, name=name: setattr(node, name, new))
        elif isinstance(value, list):
            for index, each in enumerate(value):
                if isinstance(each, ast.AST):
                    yield from _around(each, above, lambda new, at=index, on=value: on.__setitem__(at, new))


def _around(node: ast.AST, above: tuple[ast.AST, ...], put: Put) -> Iterator[_Site]:
    """What can stand in the place of the node, then what can change inside of it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # A docstring.
    if isinstance(above[-1], ast.Module) and isinstance(node, ast.Assign | ast.AnnAssign) and _is_number(node.value):
        return  # A number with a name of its own is a choice, and no logic.
    for new in _instead(node, above):
        yield _Site(node, new, above, put)
    yield from _sites(node, above)


def _is_number(node: ast.AST | None) -> bool:
    return node is not None and not isinstance(node, ast.Name) and all(
        isinstance(each, ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop)
        for each in ast.walk(node)
    )  # fmt: skip


def _instead(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[ast.AST]:
    if isinstance(node, ast.stmt):
        yield from _instead_of_statement(node, above)
    elif isinstance(node, ast.Constant) and not isinstance(above[-1], ast.JoinedStr):
        yield from _instead_of_constant(node.value)
    elif type(node) in SWAPPED:
        yield SWAPPED[type(node)]()
    else:
        yield from _instead_of_expression(node, above)


def _instead_of_statement(node: ast.stmt, above: tuple[ast.AST, ...]) -> Iterator[ast.AST]:
    match node:
        case ast.If(_, body, orelse):
            yield from (ast.If(ast.Constant(value), body, orelse) for value in (False, True))
        case ast.While(_, body, orelse):
            yield ast.While(ast.Constant(False), body, orelse)
        case ast.Return(ast.Constant(None)):
            pass
        case ast.Return(ast.expr() as value):
            yield ast.Return(ast.UnaryOp(ast.Not(), value) if _is_of_bool(above) else ast.Constant(None))
        case _ if _is_effect(node) and not _is_all_of_an_if(node, above[-1]):
            yield ast.Pass()
        case _:
            pass


def _instead_of_constant(value: object) -> Iterator[ast.AST]:
    match value:
        case bool():
            yield ast.Constant(not value)
        case int():
            yield ast.Constant(value + 1)
        case float():
            yield ast.Constant(value * 2 or 1.0)
        case str() if value.isidentifier():
            yield ast.Constant(f"other_{value}")
        case _:
            pass


def _instead_of_expression(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[ast.AST]:
    match node:
        case ast.BoolOp(op, values):
            for gone in values:
                rest = [each for each in values if each is not gone]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.Call(ast.Name(name), args, keywords) if name in SWAPPED_CALLS:
            yield ast.Call(ast.Name(SWAPPED_CALLS[name], ast.Load()), args, keywords)
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case ast.comprehension(target, over, ifs) if ifs:
            yield ast.comprehension(target, over, [], node.is_async)
        case ast.Dict(keys, values) if not any(isinstance(each, ast.FunctionDef) for each in above):
            for gone in range(len(keys)):
                yield ast.Dict(keys[:gone] + keys[gone + 1 :], values[:gone] + values[gone + 1 :])
        case _:
            pass


def _is_of_bool(above: tuple[ast.AST, ...]) -> bool:
    function = next(each for each in reversed(above) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return isinstance(function.returns, ast.Name) and function.returns.id == "bool"


def _is_effect(node: ast.stmt) -> bool:
    """A statement that can be left out without a NameError to tell of it."""
    match node:
        case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Continue() | ast.Break() | ast.Raise():
            return True
        case ast.Assign(targets):
            return all(isinstance(each, ast.Attribute | ast.Subscript) for each in targets)
        case _:
            return False


def _is_all_of_an_if(node: ast.stmt, parent: ast.AST) -> bool:
    """Then leaving it out is what `if False` does."""
    return isinstance(parent, ast.If) and parent.body == [node] and not parent.orelse
