-- append: one entry, in the transaction of the move it tells of
insert into record (at_ms, kind, subject, agent, task, data) values (:wall_ms, :kind, :subject, :agent, :task, :data);

-- has: whether there is an entry of this kind about a subject that is no task
select 1 as found from record
 where subject = :subject and (task is null or (subject <> task and kind <> 'run.started')) and kind = :kind limit 1;

-- list: entries after a place, oldest first, by whichever filters are given; a kind may be a prefix such as 'task.'
select seq, at_ms, kind, subject, agent, task, data
  from record
 where seq > :after
   and (:kind is null or substr(kind, 1, length(:kind)) = :kind)
   and (:agent is null or agent = :agent)
   and (:since_ms is null or at_ms >= :since_ms)
 order by seq limit :limit;

-- list_of: the same of one task, run, call or lease
select seq, at_ms, kind, subject, agent, task, data
  from record
 where seq > :after
   and seq in (select seq from record where task = :subject
               union all
               select seq from record
                where subject = :subject and (task is null or (subject <> task and kind <> 'run.started'))
               union all
               select record.seq from run join record on record.task = run.task
                where run.id = :subject and record.subject = :subject and record.kind = 'run.started')
   and (:kind is null or substr(kind, 1, length(:kind)) = :kind)
   and (:agent is null or agent = :agent)
   and (:since_ms is null or at_ms >= :since_ms)
 order by seq limit :limit;

-- latest: the newest entries by the same filters, newest first
select seq, at_ms, kind, subject, agent, task, data
  from record
 where (:kind is null or substr(kind, 1, length(:kind)) = :kind)
   and (:agent is null or agent = :agent)
   and (:since_ms is null or at_ms >= :since_ms)
 order by seq desc limit :limit;

-- latest_of: the same of one task, run, call or lease
select seq, at_ms, kind, subject, agent, task, data
  from record
 where seq in (select seq from record where task = :subject
               union all
               select seq from record
                where subject = :subject and (task is null or (subject <> task and kind <> 'run.started'))
               union all
               select record.seq from run join record on record.task = run.task
                where run.id = :subject and record.subject = :subject and record.kind = 'run.started')
   and (:kind is null or substr(kind, 1, length(:kind)) = :kind)
   and (:agent is null or agent = :agent)
   and (:since_ms is null or at_ms >= :since_ms)
 order by seq desc limit :limit;
