-- Version 4: what attempts took, in the order in which it came. By key, each row dirtied a page of its own.

PRAGMA legacy_alter_table = ON; -- views name these tables, and are to go on doing so

CREATE TABLE costs_in_order (
  seq INTEGER PRIMARY KEY,
  task BLOB NOT NULL,
  attempt INTEGER NOT NULL,
  kind TEXT NOT NULL,
  worker TEXT NOT NULL,
  seconds REAL NOT NULL,
  forwards INTEGER NOT NULL,
  backwards INTEGER NOT NULL,
  examples INTEGER NOT NULL
);
INSERT INTO costs_in_order (task, attempt, kind, worker, seconds, forwards, backwards, examples)
  SELECT task, attempt, kind, worker, seconds, forwards, backwards, examples FROM costs;
DROP TABLE costs;
ALTER TABLE costs_in_order RENAME TO costs;

PRAGMA legacy_alter_table = OFF;
