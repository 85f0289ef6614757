-- KEYS: record. ARGV: id, index, code of the end, 1 if cached, failure as JSON or ''. 0: it had ended before.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
local batch, index, after = batch_of(ARGV[1]), ARGV[2], ARGV[3]
if tonumber(index) < 0 or tonumber(index) >= tonumber(redis.call('HGET', batch.record, 'total')) then
  return redis.error_reply('NOTFOUND batch ' .. ARGV[1] .. ' has no job ' .. index)
end
local before = job_state(batch, index)
if ENDED[before] then return 0 end
if after ~= 'c' then
  begin(batch)
  redis.call('APPEND', batch.order, struct.pack('<I4', tonumber(index)))
end
move(batch, index, before, after)
local how = NAMES[after]
if ARGV[4] == '1' then
  redis.call('HINCRBY', batch.record, 'cached', 1)
  how = 'cached'
end
if ARGV[5] ~= '' then
  redis.call('HSET', batch.failures, index, ARGV[5])
  how = cjson.decode(ARGV[5]).code
end
count_ends(batch, how, 1)
redis.call('HDEL', batch.progress, index)
settle(batch)
return 1
