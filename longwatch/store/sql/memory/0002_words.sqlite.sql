-- Contentless: the text itself is in memory_record. Tags are the agent and the kind, so that a search for one agent's
-- records reads no others. What is taken out is overwritten at once.
create virtual table memory_words using fts5(
  body, tags, content = '', contentless_delete = 1, detail = none,
  tokenize = 'porter unicode61 remove_diacritics 2'
);
insert into memory_words (memory_words, rank) values ('secure-delete', 1);
