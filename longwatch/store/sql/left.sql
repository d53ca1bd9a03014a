-- unchecked: snapshots of records that nobody has compared with them yet
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent
  from memory_snapshot
 where level = 1 and checked = 0 and made_ms <= :wall_ms - cast(:age_ms as bigint)
   and (agent, first_place) > (:agent, cast(:first_place as bigint))
 order by agent, first_place limit :limit;

-- check: it is what its records say, unless it was changed meanwhile
update memory_snapshot set checked = 1 where id = :id and sha256 = :sha;

-- records: what a snapshot covers that was compared with it, is not pinned, does not stand, and is not among the newest that a
-- brief reads; whose covering and happening are both old
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record
 where seq > :after and seq <= :upto and seq < (select max(seq) from memory_record)
   and pinned = 0 and at_ms <= :wall_ms - cast(:age_ms as bigint)
   and (state <> 'live'
        or (kind not in ('goal', 'decision', 'commitment', 'lesson')
            and place < (select newest.place from memory_record as newest
                          where newest.agent = memory_record.agent and newest.kind = memory_record.kind
                            and newest.state = 'live'
                          order by newest.place desc limit 1 offset :newest)))
   and 1 = (select case when covers.last_place >= memory_record.place and covers.checked = 1
                         and covers.made_ms <= :wall_ms - cast(:age_ms as bigint) then 1 else 0 end
              from memory_snapshot as covers
             where covers.agent = memory_record.agent and covers.level = 1 and covers.first_place <= memory_record.place
             order by covers.first_place desc limit 1)
 order by seq limit :limit;

-- drop_words: before their records
delete from memory_words where rowid in (select value from json_each(:listed));

-- drop: their copies are verified
delete from memory_record where seq in (select cast(value as bigint) from json_each(:listed));

-- extend: places that follow those of the same source
update memory_left set last_place = :last_place
 where agent = :agent and source = :source and last_place = cast(:first_place as bigint) - 1
   and first_place = (select max(first_place) from memory_left where agent = :agent and first_place <= :first_place);

-- keep: places that have left
insert into memory_left (agent, first_place, last_place, source) values (:agent, :first_place, :last_place, :source);

-- keep_gone: a place whose record was not live
insert into memory_left_gone (agent, place) values (:agent, :place) on conflict (agent, place) do nothing;

-- keep_key: it stays taken
insert into memory_left_key (short, place, left_day) values (:short, :place, :left_day)
on conflict (short) do update set place = excluded.place, left_day = excluded.left_day;

-- keys: which of these are taken
select short, place from memory_left_key where short in (select cast(value as bigint) from json_each(:listed));

-- forget_keys: of what left before that day, whose segments were dropped with their age
delete from memory_left_key where left_day < :left_day;

-- ranges: what has left between two places
select first_place, last_place, source from memory_left
 where agent = :agent and first_place <= :last_place and last_place >= :first_place order by first_place;

-- among: which of these places have left
select cast(value as bigint) as place from json_each(:listed)
 where cast(value as bigint) <= (select last_place from memory_left
                                  where agent = :agent and first_place <= cast(value as bigint)
                                  order by first_place desc limit 1);

-- sources: how many places have left with each
select source, sum(last_place - first_place + 1) as places from memory_left where agent = :agent
 group by source order by source;

-- left: whether any place of anybody has
select 1 as one from memory_left limit 1;

-- forget: a range, part of which is back
delete from memory_left where agent = :agent and first_place = :first_place;

-- forget_gone: it is back
delete from memory_left_gone where agent = :agent and place = :place;

-- forget_key: it is back
delete from memory_left_key where short = :short;

-- restore: as it was, in its own place
insert into memory_record (seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data,
                           successor, pinned)
values (:seq, :id, :agent, :place, :kind, :state, :at_ms, :task, :thread, :author, :source, :trust, :key, :body, :data,
        :successor, :pinned)
on conflict do nothing;
