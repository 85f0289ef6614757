-- KEYS: record. ARGV: id, code of the end, 1 if cached, failure as JSON or '', indices. Returns those that had not ended before.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
local batch, after, failure = batch_of(ARGV[1]), ARGV[2], ARGV[4]
local total = tonumber(redis.call('HGET', batch.record, 'total'))
for position = 5, #ARGV do
  if tonumber(ARGV[position]) < 0 or tonumber(ARGV[position]) >= total then
    return redis.error_reply('NOTFOUND batch ' .. ARGV[1] .. ' has no job ' .. ARGV[position])
  end
end
local has_progress = redis.call('EXISTS', batch.progress) == 1
local ended, order, moved = {}, {}, {q = 0, r = 0}
for position = 5, #ARGV do
  local index = ARGV[position]
  local before = job_state(batch, index)
  if not ENDED[before] then
    redis.call('SETRANGE', batch.states, index, after)
    if failure ~= '' then redis.call('HSET', batch.failures, index, failure) end
    if has_progress then redis.call('HDEL', batch.progress, index) end
    moved[before] = moved[before] + 1
    ended[#ended + 1] = tonumber(index)
    order[#order + 1] = struct.pack('<I4', tonumber(index))
  end
end
if #ended == 0 then return ended end
if after ~= 'c' then
  begin(batch)
  redis.call('APPEND', batch.order, table.concat(order))
end
count_moved(batch, 'q', after, moved.q)
count_moved(batch, 'r', after, moved.r)
local how = NAMES[after]
if ARGV[3] == '1' then
  redis.call('HINCRBY', batch.record, 'cached', #ended)
  how = 'cached'
end
if failure ~= '' then how = cjson.decode(failure).code end
count_ends(batch, how, #ended)
settle(batch)
return ended
