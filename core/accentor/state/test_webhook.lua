-- ARGV: id, message, event type.
local webhook = webhook_of(ARGV[1])
if redis.call('EXISTS', webhook.record) == 0 then return no_webhook(ARGV[1]) end
if redis.call('HEXISTS', webhook.record, 'disabled_at') == 1 then
  return redis.error_reply('ILLEGAL webhook ' .. ARGV[1] .. ' is disabled: enable it before it is tested')
end
if not queue_message(webhook, ARGV[2], cjson.encode({type = ARGV[3], at = stamp(now())})) then
  return redis.error_reply('ILLEGAL webhook ' .. ARGV[1] .. ' has ' .. MAX_WAITING .. ' events waiting, as many as it may')
end
return 1
