-- KEYS: held. ARGV: batch, jobs, limit, seconds that a batch may take from here to its creation.
-- Returns the jobs that were queued before, and whether these were added. What is not yet created counts in full.
local time = now()
local queued = 0
local entries = redis.call('HGETALL', KEYS[1])
for place = 1, #entries, 2 do
  local id, jobs, at = entries[place], string.match(entries[place + 1], '^(%d+) (.+)$')
  local field = redis.call('HMGET', batch_of(id).record, 'state', 'queued')
  if id == ARGV[1] then
    jobs = 0
  elseif field[1] and BATCH_ENDED[field[1]] or not field[1] and time - tonumber(at) > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], id)
  else
    queued = queued + tonumber(field[2] or jobs)
  end
end
if queued + tonumber(ARGV[2]) > tonumber(ARGV[3]) then return {queued, 0} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. stamp(time))
return {queued, 1}
