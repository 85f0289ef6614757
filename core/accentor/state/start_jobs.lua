-- KEYS: record. ARGV: id, indices. Queued jobs become running; returns those that did.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
local batch = batch_of(ARGV[1])
local started = {}
for position = 2, #ARGV do
  if job_state(batch, ARGV[position]) == 'q' then
    redis.call('SETRANGE', batch.states, ARGV[position], 'r')
    started[#started + 1] = tonumber(ARGV[position])
  end
end
if #started > 0 then
  count_moved(batch, 'q', 'r', #started)
  begin(batch)
  settle(batch)
end
return started
