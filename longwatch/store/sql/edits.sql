-- by_id: whether a commit has landed
select id, applied_ms from edit where id = :id;

-- commit: the files and their new bytes, to be put in place by this process or the next one
insert into edit (id, root, owner, agent, task, items, applied_ms)
values (:id, :root, :owner, :agent, :task, :items, case when :items = '[]' then :now_ms end);

-- pending: commits of this root that were not put in place to the end, oldest first
select id, agent, task, items from edit where root = :root and applied_ms is null order by seq;

-- apply: everything is in place
update edit set applied_ms = :now_ms where id = :id and applied_ms is null;

-- position: changes with every commit; pending: how many of this root are not in place yet
select coalesce((select max(seq) from edit), 0) as seq,
       (select count(*) from edit where root = :root and applied_ms is null) as pending;

-- live: edits whose lease has not ended
select edit as id from lease
 where edit is not null and until_ms > :now_ms and boot_id = (select boot_id from fleet);

-- forget: drop commits that were put in place long ago, never the newest
delete from edit where seq in (
  select seq from edit where applied_ms < :now_ms - :keep_ms and seq < (select max(seq) from edit) order by seq limit :limit);
