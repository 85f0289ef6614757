-- In front of every script. A batch is five keys: its record (hash), its status string (one character a job, missing or
-- zero: queued), its failures and the progress of its running jobs (hashes by index), and the indices of its jobs in the
-- order in which they ended (four bytes each).
local PREFIX = 'accentor:'
local STRIDE = 65536
local NAMES = {q = 'queued', r = 'running', s = 'succeeded', f = 'failed', c = 'canceled'}
local ENDED = {s = true, f = true, c = true}
local BATCH_ENDED = {succeeded = true, partially_failed = true, failed = true, canceled = true}
local ANONYMOUS = '-'
local DUE = PREFIX .. 'webhooks-due'
local MAX_WAITING = 1000

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function stamp(seconds)
  return string.format('%.6f', seconds)
end

local function no_batch(record)
  return redis.error_reply('NOTFOUND there is no batch ' .. string.sub(record, #PREFIX + #'batch:' + 1))
end

local function batch_of(id)
  local record = PREFIX .. 'batch:' .. id
  return {record = record, states = record .. ':states', failures = record .. ':failures', progress = record .. ':progress',
    order = record .. ':order'}
end

-- Whether a batch or an atlas of this id was created.
local function was_made(id)
  return redis.call('EXISTS', batch_of(id).record, PREFIX .. 'atlas:' .. id) > 0
end

local function job_state(batch, index)
  local code = redis.call('GETRANGE', batch.states, index, index)
  if code == '' or code == '\0' then return 'q' end
  return code
end

-- The states of jobs start to stop - 1, one character each.
local function job_codes(batch, start, stop)
  local codes = string.gsub(redis.call('GETRANGE', batch.states, start, stop - 1), '%z', 'q')
  return codes .. string.rep('q', stop - start - #codes)
end

-- So many jobs have left one state for another.
local function count_moved(batch, before, after, count)
  if count == 0 then return end
  redis.call('HINCRBY', batch.record, NAMES[before], -count)
  redis.call('HINCRBY', batch.record, NAMES[after], count)
end

-- What is counted since the beginning.
local function count(number, ...)
  redis.call('HINCRBY', PREFIX .. 'totals', table.concat({...}, '|'), number)
end

-- Jobs ended so: succeeded, cached, canceled, or the code of a failure.
local function count_ends(batch, how, jobs)
  local place = redis.call('HMGET', batch.record, 'lane', 'model')
  if not place[1] then return end
  count(jobs, 'ended', place[1], place[2], how)
end

-- All queued jobs of a batch end in this state.
local function end_queued(batch, total, code, how)
  local queued = tonumber(redis.call('HGET', batch.record, 'queued'))
  if queued == 0 then return end
  local states = string.gsub(redis.call('GET', batch.states) or '', '[q%z]', code)
  redis.call('SET', batch.states, states .. string.rep(code, total - #states))
  redis.call('HINCRBY', batch.record, NAMES[code], queued)
  count_ends(batch, how, queued)
  redis.call('HSET', batch.record, 'queued', 0)
end

local function id_of(batch)
  return string.sub(batch.record, #PREFIX + #'batch:' + 1)
end

-- A webhook is its record (hash), its events that are not delivered (by the time of their next attempt; their content; attempts
-- made), its last attempts (list), and its secrets by the time until which they count.
local function webhook_of(id)
  local record = PREFIX .. 'webhook:' .. id
  return {id = id, record = record, waiting = record .. ':waiting', messages = record .. ':messages', tries = record .. ':tries',
    log = record .. ':log', secrets = record .. ':secrets'}
end

local function no_webhook(id)
  return redis.error_reply('NOTFOUND there is no webhook ' .. id)
end

-- It is due with its first event, not before the pause after a failure.
local function set_due(webhook)
  local first = redis.call('ZRANGE', webhook.waiting, 0, 0, 'WITHSCORES')
  if first[1] then
    local pause = tonumber(redis.call('HGET', webhook.record, 'not_before') or 0)
    redis.call('ZADD', DUE, stamp(math.max(tonumber(first[2]), pause)), webhook.id)
  else
    redis.call('ZREM', DUE, webhook.id)
  end
end

local function forget_messages(webhook)
  redis.call('DEL', webhook.waiting, webhook.messages, webhook.tries)
  redis.call('HDEL', webhook.record, 'token')
  redis.call('ZREM', DUE, webhook.id)
end

-- While an event is being sent, the end of that says when the next one is due.
local function queue_message(webhook, message, event)
  if redis.call('ZCARD', webhook.waiting) >= MAX_WAITING then
    redis.call('HINCRBY', webhook.record, 'dropped', 1)
    count(1, 'webhook', 'dropped')
    return false
  end
  redis.call('HSET', webhook.messages, message, event)
  redis.call('ZADD', webhook.waiting, stamp(now()), message)
  if redis.call('HEXISTS', webhook.record, 'token') == 0 then set_due(webhook) end
  return true
end

-- What has become of a batch is queued, as it stands, for every webhook of its owner that listens to it.
local function announce(batch, time)
  local field = redis.call('HMGET', batch.record, 'owner', 'state', 'revision')
  if not field[1] then return end
  local ids = redis.call('ZRANGE', PREFIX .. 'webhooks:' .. field[1], 0, -1)
  if #ids == 0 then return end
  local kind = 'batch.' .. field[2]
  local message = string.format('msg_%s_%s', id_of(batch), field[3])
  local event = cjson.encode({type = kind, at = stamp(time), batch = redis.call('HGETALL', batch.record)})
  for _, id in ipairs(ids) do
    local webhook = webhook_of(id)
    local wants = redis.call('HMGET', webhook.record, 'events', 'disabled_at')
    if wants[1] and not wants[2] and string.find(' ' .. wants[1] .. ' ', ' ' .. kind .. ' ', 1, true) then
      queue_message(webhook, message, event)
    end
  end
end

local function begin(batch)
  local time = now()
  redis.call('HSETNX', batch.record, 'started_at', stamp(time))
  if redis.call('HGET', batch.record, 'state') == 'queued' then
    redis.call('HSET', batch.record, 'state', 'running')
    announce(batch, time)
  end
end

-- After any change: the revision, and the batch's end once no job is queued or running.
local function settle(batch)
  redis.call('HINCRBY', batch.record, 'revision', 1)
  local field = redis.call('HMGET', batch.record, 'state', 'queued', 'running', 'succeeded', 'failed')
  if BATCH_ENDED[field[1]] or tonumber(field[2]) + tonumber(field[3]) > 0 then return end
  local state = 'partially_failed'
  if field[1] == 'canceling' or tonumber(field[4]) + tonumber(field[5]) == 0 then state = 'canceled'
  elseif tonumber(field[5]) == 0 then state = 'succeeded'
  elseif tonumber(field[4]) == 0 then state = 'failed' end
  local time = now()
  local id = id_of(batch)
  local lifetime = redis.call('HGET', batch.record, 'lifetime_s')
  redis.call('HSET', batch.record, 'state', state, 'finished_at', stamp(time))
  redis.call('DEL', batch.progress)
  redis.call('ZREM', PREFIX .. 'deadlines', id)
  if lifetime then
    redis.call('HSET', batch.record, 'expires_at', stamp(time + tonumber(lifetime)))
    redis.call('ZADD', PREFIX .. 'expiries', stamp(time + tonumber(lifetime)), id)
  end
  announce(batch, time)
end

-- Running jobs of a shard become queued again, or canceled where its batch is being canceled.
local function requeue(batch, shard)
  local after = 'q'
  if redis.call('HGET', batch.record, 'state') == 'canceling' then after = 'c' end
  local codes = job_codes(batch, shard.start, shard.stop)
  local place, moved = string.find(codes, 'r', 1, true), 0
  while place do
    local index = shard.start + place - 1
    redis.call('SETRANGE', batch.states, index, after)
    redis.call('HDEL', batch.progress, index)
    moved = moved + 1
    place = string.find(codes, 'r', place + 1, true)
  end
  count_moved(batch, 'r', after, moved)
  if after == 'c' and moved > 0 then count_ends(batch, 'canceled', moved) end
  if moved > 0 then settle(batch) end
end

local function unfinished(batch, shard)
  local _, count = string.gsub(job_codes(batch, shard.start, shard.stop), '[qr]', '')
  return count
end

local function read_shard(id)
  local key = PREFIX .. 'shard:' .. id
  local field = redis.call('HMGET', key, 'batch', 'start', 'stop', 'lane', 'model', 'attempts', 'token', 'alive_until', 'suspect_at',
    'sent_at', 'due_at')
  if not field[1] then return nil end
  local place = field[4] .. ':' .. field[5]
  return {
    id = id, key = key, batch = field[1], start = field[2], stop = field[3], lane = field[4], model = field[5],
    attempts = field[6], token = field[7], alive_until = tonumber(field[8]), suspect_at = field[9] and tonumber(field[9]),
    sent_at = tonumber(field[10]), due_at = tonumber(field[11]),
    waiting = PREFIX .. 'waiting:' .. place, running = PREFIX .. 'running:' .. place,
  }
end

-- Whether a worker's token is one of this owner's.
local function is_of(token, owner)
  return string.sub(token, 1, #owner + 1) == owner .. '/'
end

-- Its message is about to be sent; after `due` seconds without a worker it is sent again.
local function mark_sent(key, due)
  local time = now()
  redis.call('HSET', key, 'sent_at', stamp(time), 'due_at', stamp(time + due))
end

local function new_shard(batch_id, start, stop, lane, model, attempts, due)
  local id = string.format('%s.%d-%d', batch_id, start, stop)
  local key = PREFIX .. 'shard:' .. id
  redis.call('HSET', key, 'batch', batch_id, 'start', start, 'stop', stop, 'lane', lane, 'model', model,
    'attempts', attempts, 'token', '', 'alive_until', 0)
  mark_sent(key, due)
  redis.call('SREM', PREFIX .. 'running:' .. lane .. ':' .. model, id)
  redis.call('SADD', PREFIX .. 'waiting:' .. lane .. ':' .. model, id)
  return id
end

-- The first queued job from an index on; a retried batch has few.
local function first_queued(batch, from, total)
  while from < total do
    local codes = redis.call('GETRANGE', batch.states, from, from + STRIDE - 1)
    if codes == '' then return from end
    local found = string.find(codes, '[q%z]')
    if found then return from + found - 1 end
    from = from + #codes
  end
  return nil
end

-- The next shard of the next batch in the ring; nil if none has jobs left.
local function next_shard(ring, lane, model, jobs, due)
  local id = redis.call('LPOP', ring)
  while id do
    local batch = batch_of(id)
    local field = redis.call('HMGET', batch.record, 'state', 'cursor', 'total', 'shard_jobs')
    if field[1] == 'queued' or field[1] == 'running' then
      local total = tonumber(field[3])
      local start = first_queued(batch, tonumber(field[2]), total)
      if start then
        local stop = math.min(start + math.min(jobs, tonumber(field[4] or jobs)), total)
        redis.call('HSET', batch.record, 'cursor', stop)
        if stop < total then redis.call('RPUSH', ring, id) end
        return new_shard(id, start, stop, lane, model, 0, due)
      end
    end
    id = redis.call('LPOP', ring)
  end
  return nil
end

local function hand_over(shard, token, alive)
  redis.call('HSET', shard.key, 'token', token, 'alive_until', stamp(now() + alive))
  redis.call('SMOVE', shard.waiting, shard.running, shard.id)
end

local function forget_shard(shard)
  redis.call('DEL', shard.key)
  redis.call('SREM', shard.waiting, shard.id)
  redis.call('SREM', shard.running, shard.id)
end

-- The shard has no worker any more: its running jobs are queued again, and it waits, or is gone if nothing is left of it.
local function put_back(shard, due)
  local batch = batch_of(shard.batch)
  requeue(batch, shard)
  local left = 0
  if redis.call('EXISTS', batch.record) == 1 then left = unfinished(batch, shard) end
  if left == 0 then
    forget_shard(shard)
  else
    redis.call('HSET', shard.key, 'token', '', 'alive_until', 0)
    mark_sent(shard.key, due)
    redis.call('HDEL', shard.key, 'suspect_at')
    redis.call('SMOVE', shard.running, shard.waiting, shard.id)
  end
  return left
end

local function described(shard)
  return {shard.id, shard.batch, shard.start, shard.stop, shard.lane, shard.model, shard.attempts}
end
