-- Requests for wrk: each a check-in of its own, of a random monitor. Arguments (after --): protocol, file of monitors,
-- project, key, seconds of load, requests a second in all (0: as many as possible), connections.
--
-- wrk cuts its connections at the end. So that every check-in has had its answer by then, the last second asks for an
-- address where nothing is, and is not counted: acknowledged are the answers with 200 to 299. Those of the last second
-- come faster than all others, so percentiles are taken from what is left above them.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long us; } timeval_t; int gettimeofday(timeval_t *now, void *zone);")
local instant = ffi.new("timeval_t")
local function now()
   ffi.C.gettimeofday(instant, nil)
   return tonumber(instant.s) + tonumber(instant.us) / 1e6
end

local protocol, monitors, project, key, ends = nil, {}, nil, nil, nil
local headers = {}
local seed = 0

function setup(thread)
   seed = seed + 1
   thread:set("id", seed)
end

local function uuid()
   return string.format("%08x%04x4%03x8%03x%06x%06x", math.random(0, 0x7fffffff), math.random(0, 0xffff),
      math.random(0, 0xfff), math.random(0, 0xfff), math.random(0, 0xffffff), math.random(0, 0xffffff))
end

local makers = {
   ping = function(guid, slug) return wrk.format("GET", "/ping/" .. guid) end,
   sentry_http = function(guid, slug)
      return wrk.format("GET", "/api/" .. project .. "/cron/" .. slug .. "/" .. key .. "/?status=ok&check_in_id=" .. uuid())
   end,
   sentry_envelope = function(guid, slug)
      local item = '{"type":"check_in","monitor_slug":"' .. slug .. '","check_in_id":"' .. uuid() ..
         '","status":"ok","duration":1.25,"environment":"production","release":"driver@1.0.0","monitor_config":' ..
         '{"schedule":{"type":"crontab","value":"*/5 * * * *"},"timezone":"Europe/Vienna","checkin_margin":2,' ..
         '"max_runtime":10,"failure_issue_threshold":2,"recovery_threshold":1},"event_id":"' .. uuid() ..
         '","timestamp":"2026-11-23T10:44:09.193834Z","contexts":{"trace":{"trace_id":"' .. uuid() ..
         '","span_id":"9f7e8ed8f789af64","parent_span_id":null}},"server_name":"vm","sdk":{"name":"sentry.python",' ..
         '"version":"2.75.0","packages":[{"name":"pypi:sentry-sdk","version":"2.75.0"}]},"platform":"python"}'
      local body = '{"event_id":"' .. uuid() .. '","sent_at":"2026-11-23T10:44:09.194640Z"}\n' ..
         '{"type":"check_in","content_type":"application/json","length":' .. #item .. '}\n' .. item .. '\n'
      return wrk.format("POST", "/api/" .. project .. "/envelope/", headers, body)
   end,
   cronitor = function(guid, slug) return wrk.format("GET", "/p/" .. key .. "/" .. slug .. "?state=ok&series=" .. uuid()) end,
   uptime_kuma = function(guid, slug) return wrk.format("GET", "/api/push/" .. guid .. "?status=up&ping=12") end,
   rest = function(guid, slug)
      return wrk.format("POST", "/api/v1/checkins", headers, '{"monitor":"' .. slug .. '","status":"ok","id":"' .. uuid() .. '"}')
   end,
}

function init(args)
   protocol, project, key = args[1], args[3], args[4]
   for line in io.lines(args[2]) do
      local guid, slug = line:match("(%S+) (%S+)")
      monitors[#monitors + 1] = {guid, slug}
   end
   ends = now() + tonumber(args[5])
   if tonumber(args[6]) > 0 then
      -- Only where it is needed: with it wrk searches a list of timers at each request.
      local pause = 2000 * tonumber(args[7]) / tonumber(args[6])
      delay = function() return now() >= ends and 500 or math.random() * pause end
   end
   headers["Authorization"] = "Bearer " .. key
   headers["Content-Type"] = "application/json"
   if protocol == "sentry_envelope" then
      headers = {["X-Sentry-Auth"] = "Sentry sentry_key=" .. key .. ", sentry_version=7, sentry_client=sentry.python/2.75.0"}
   end
   math.randomseed(os.time() * 7919 + id)
   for _ = 1, 100 do math.random() end
end

function request()
   if now() >= ends then return wrk.format("GET", "/api/0/no-check-in") end
   local monitor = monitors[math.random(#monitors)]
   return makers[protocol](monitor[1], monitor[2])
end

function done(summary, latency, requests)
   local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
   local others = summary.errors.status / summary.requests
   local function percentile(p) return latency:percentile(100 * (others + p / 100 * (1 - others))) / 1000 end
   io.write(string.format('\n{"acknowledged": %d, "failed": %d, "p50_ms": %.1f, "p99_ms": %.1f}\n',
      summary.requests - summary.errors.status, failed, percentile(50), percentile(99)))
end
