-- KEYS: record. ARGV: id, then pairs of index and progress as JSON. Only running jobs have progress.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
local batch = batch_of(ARGV[1])
for position = 2, #ARGV, 2 do
  if job_state(batch, ARGV[position]) == 'r' then
    redis.call('HSET', batch.progress, ARGV[position], ARGV[position + 1])
  end
end
redis.call('HINCRBY', batch.record, 'revision', 1)
return 1
