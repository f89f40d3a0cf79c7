-- From schema version 1 to 2, in one transaction: every record and every answer carries a checksum.
-- `row_sum` is a function of this program: the first 8 bytes of BLAKE3 over the table's name and the columns.

-- When the attempt that answered was leased, once the row of its lease has been compacted away.
ALTER TABLE history ADD COLUMN leased_ms INTEGER;

ALTER TABLE history ADD COLUMN sum INTEGER;
ALTER TABLE train_answers ADD COLUMN sum INTEGER;
ALTER TABLE checkpoint_facts ADD COLUMN sum INTEGER;
ALTER TABLE evaluate_answers ADD COLUMN sum INTEGER;
ALTER TABLE witness_files ADD COLUMN sum INTEGER;
ALTER TABLE trust ADD COLUMN sum INTEGER;
ALTER TABLE measure_answers ADD COLUMN sum INTEGER;

-- Attempts of a task that were given back or failed before it was answered, where compaction dropped their records.
CREATE TABLE retried (task BLOB PRIMARY KEY, retries INTEGER NOT NULL) WITHOUT ROWID;

-- Documented: rows that were found damaged, and what became of them.
CREATE TABLE damage (
  id INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,          -- Unix time
  place TEXT NOT NULL,             -- table and row
  lost TEXT NOT NULL               -- in words
);
