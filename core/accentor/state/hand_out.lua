-- KEYS: ring, waiting. ARGV: lane, model, window, jobs of a shard, seconds until its message is due again.
-- The next shard of the next batch in the ring, unless enough shards wait already.
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[3]) then return false end
local id = redis.call('LPOP', KEYS[1])
while id do
  local batch = batch_of(id)
  local field = redis.call('HMGET', batch.record, 'state', 'cursor', 'total')
  if field[1] == 'queued' or field[1] == 'running' then
    local start, total = tonumber(field[2]), tonumber(field[3])
    local stop = math.min(start + tonumber(ARGV[4]), total)
    redis.call('HSET', batch.record, 'cursor', stop)
    if stop < total then redis.call('RPUSH', KEYS[1], id) end
    return described(read_shard(new_shard(id, start, stop, ARGV[1], ARGV[2], 0, tonumber(ARGV[5]))))
  end
  id = redis.call('LPOP', KEYS[1])
end
return false
