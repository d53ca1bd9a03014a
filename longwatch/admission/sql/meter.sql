-- several: the meters of one call, one for each dimension, quota, gate and line or null; those never used are absent
select name, free_us, last_us, total from meter where name in (:first, :second, :third, :fourth, :fifth, :sixth, :seventh);

-- keep: the meters of one call as a decision leaves them; a name is null where there is none
insert into meter (name, free_us, last_us, total)
select * from (values (:first, :first_free_us, :first_last_us, :first_total),
                      (:second, :second_free_us, :second_last_us, :second_total),
                      (:third, :third_free_us, :third_last_us, :third_total),
                      (:fourth, :fourth_free_us, :fourth_last_us, :fourth_total)) as kept
 where column1 is not null
on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total;

-- every: all meters, for the listing
select name, free_us, last_us, total from meter order by name;
