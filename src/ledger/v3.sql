-- From schema version 2 to 3, in one transaction: answers lie in the order in which they came. By key, which is a hash,
-- each of them went to another page, and every page that a transaction touches is written whole, twice.

-- What looks for the records of single tasks reads the history once.
DROP INDEX IF EXISTS history_by_task;

PRAGMA legacy_alter_table = ON; -- views name these tables, and are to go on doing so

CREATE TABLE answers_in_order (
  task BLOB NOT NULL PRIMARY KEY,
  family BLOB NOT NULL,
  epsilons TEXT NOT NULL,          -- JSON list, positive, ascending
  first INTEGER NOT NULL,          -- index of the shard's first test example
  levels TEXT NOT NULL,            -- JSON list, one per example: 0 misclassified, k broken from epsilons[k-1] on
  sum INTEGER
);
INSERT INTO answers_in_order SELECT task, family, epsilons, first, levels, sum FROM evaluate_answers;
DROP TABLE evaluate_answers; -- and the index by family, which Ledger::add_sweep makes when a second sweep may ask for it
ALTER TABLE answers_in_order RENAME TO evaluate_answers;

CREATE TABLE trust_in_order (task BLOB NOT NULL PRIMARY KEY, facts TEXT NOT NULL, sum INTEGER);
INSERT INTO trust_in_order SELECT task, facts, sum FROM trust;
DROP TABLE trust;
ALTER TABLE trust_in_order RENAME TO trust;

PRAGMA legacy_alter_table = OFF;
