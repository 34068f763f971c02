// Jobs that report through @sentry/node: one ends well, one fails at once, and one is of the package `cron`.
//
// usage: node jobs.cjs DSN PREFIX_OF_SLUGS HOW_MANY_FAIL

const { CronJob } = require("cron");
const Sentry = require("@sentry/node");

const [dsn, prefix, failing] = process.argv.slice(2);
const EVERY_TEN_MINUTES = {
  schedule: { type: "crontab", value: "*/10 * * * *" },
  timezone: "Europe/Vienna",
  checkinMargin: 2,
  maxRuntime: 20,
  failureIssueThreshold: 2,
  recoveryThreshold: 3,
};

async function main() {
  Sentry.init({ dsn });
  const told = { raised: [] };

  for (let n = 0; n < Number(failing); n++) {
    try {
      Sentry.withMonitor(`${prefix}-fails-${n}`, () => { throw new Error(`no route ${n}`); }, EVERY_TEN_MINUTES);
    } catch (error) {
      told.raised.push(error.message);
    }
  }
  told.returned = await Sentry.withMonitor(`${prefix}-works`, async () => 42, EVERY_TEN_MINUTES);

  const CheckedCronJob = Sentry.cron.instrumentCron(CronJob, `${prefix}-cron`);
  const job = CheckedCronJob.from({
    cronTime: "30 2 * jan mon-fri", onTick: () => { told.ticked = true; }, timeZone: "Europe/Vienna",
  });
  await job.fireOnTick();

  told.flushed = await Sentry.flush(30000);
  process.stdout.write(JSON.stringify(told));
}

main();
