"""A fake of Flink's StreamTableEnvironment that records statements and inserts and starts no JVM."""

import re
from dataclasses import dataclass, field
from typing import Any, Self

_OPTION = re.compile(r"'((?:[^']|'')*)'\s*=\s*'((?:[^']|'')*)'")


@dataclass
class FakeStream:
    """A DataStream as the names of its parts."""

    parts: tuple[str, ...]

    def union(self, *others: Self) -> "FakeStream":
        return FakeStream(sum((other.parts for other in others), self.parts))


@dataclass
class FakeTables:
    """Table environment.

    statements: DDL and queries in order. inserts: (format of uids at that time, SQL) of each INSERT.
    """

    statements: list[str] = field(default_factory=list)
    inserts: list[tuple[str, str]] = field(default_factory=list)
    views: dict[str, FakeStream] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    _pending: str = ""

    def get_config(self) -> Any:
        return self

    def set(self, key: str, value: str) -> None:
        self.settings[key] = value

    def execute_sql(self, sql: str) -> None:
        self.statements.append(sql)

    def sql_query(self, sql: str) -> str:
        self.statements.append(sql)
        return sql

    def to_data_stream(self, query: str) -> FakeStream:
        return FakeStream((query,))

    def create_temporary_view(self, name: str, stream: FakeStream) -> None:
        self.views[name] = stream

    def create_statement_set(self) -> Any:
        return self

    def add_insert_sql(self, sql: str) -> None:
        self._pending = sql

    def attach_as_datastream(self) -> None:
        self.inserts.append((self.settings["table.exec.uid.format"], self._pending))

    def options(self, table: str) -> dict[str, str]:
        """Return the options of a table or catalog, with doubled quotes unescaped. Fail unless it is declared once."""
        found = [sql for sql in self.statements if re.search(rf"CREATE (TEMPORARY TABLE|CATALOG) {table}\b", sql)]
        assert len(found) == 1, f"{table} is declared {len(found)} times"
        _, _, clause = found[0].partition(" WITH ")
        assert re.fullmatch(rf"\({_OPTION.pattern}(, {_OPTION.pattern})*\)", clause), f"no options: {clause}"
        return {key.replace("''", "'"): value.replace("''", "'") for key, value in _OPTION.findall(clause)}
