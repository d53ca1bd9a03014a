-- The same, as the server knows it.
alter table memory_record add column words tsvector;
create index memory_record_words on memory_record using gin (words);
