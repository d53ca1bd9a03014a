-- append: one entry, in the transaction of the move it tells of
insert into record (at_ms, kind, subject, agent, task, data) values (:wall_ms, :kind, :subject, :agent, :task, :data);

-- list: entries after a place, oldest first, by whichever filters are given; a kind may be a prefix such as 'task.'
select seq, at_ms, kind, subject, agent, task, data
  from record
 where seq > :after
   and (:kind is null or substr(kind, 1, length(:kind)) = :kind)
   and (:subject is null or subject = :subject or task = :subject)
   and (:agent is null or agent = :agent)
   and (:since_ms is null or at_ms >= :since_ms)
 order by seq limit :limit;

-- latest: the newest entries by the same filters, newest first
select seq, at_ms, kind, subject, agent, task, data
  from record
 where (:kind is null or substr(kind, 1, length(:kind)) = :kind)
   and (:subject is null or subject = :subject or task = :subject)
   and (:agent is null or agent = :agent)
   and (:since_ms is null or at_ms >= :since_ms)
 order by seq desc limit :limit;
