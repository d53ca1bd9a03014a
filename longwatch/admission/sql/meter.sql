-- several: the meters of one call, by name; those never used are absent
select name, free_us, last_us, total from meter where name in (select value from json_each(:names));

-- keep: the meters as a decision leaves them: [[name, free_us, last_us, total], ...]
insert into meter (name, free_us, last_us, total)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(:meters) where true
on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total;

-- every: all meters, for the listing
select name, free_us, last_us, total from meter order by name;
