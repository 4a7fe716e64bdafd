"""Words about code on a board that is not the node's; sentill.node.foreign_code and the deploy agent find it."""

_MOST_NAMED = 4


def words(paths: list[str]) -> str:
    """That there is such code."""
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return f"on its flash is code that is not the node's: {', '.join(paths[:_MOST_NAMED])}{more}"


def fix(port: str) -> str:
    """What to do about it."""
    return f"`sentill deploy {port} --remove-foreign` removes it; ask who put it there"
