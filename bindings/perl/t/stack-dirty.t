# A VM that dirties memory faster than the link takes it, until the downtime ramp lets it go.
use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;
use SwitchoverTest::StackChecks;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}
my $cluster = SwitchoverTest::Cluster->new();

# 16 MiB of memory walked through at 4 MiB/s, over a link of 8 MiB/s: it converges in some seconds.
$cluster->start_vm(100, dirty_pages_per_tick => 1, dirty_bytes => 16 * 1024 ** 2,
    config => { migrate_speed => 8 });
my $task = $cluster->wait_for($cluster->start_migration(100));
my @messages = SwitchoverTest::Cluster::messages_of($task);
is($task->{exit}, 0, 'the task succeeds') or diag(@messages);
ok(log_in_order(\@messages,
    qr/\Astart migrate command to /,
    qr{\Amigration active, transferred [\d.]+ [KM]iB of [\d.]+ MiB VM-state, [\d.]+ [KM]?i?B/s},
    qr/\Amigration status: completed\z/), 'its log shows the progress, in order');
guest_moved($cluster, 100);
gap_of($cluster, 100, 'dirtying (the facts: about 90)');
$cluster->remove_vm(100);

# 2 MiB walked through 25 times a second over 4 MiB/s: all of it is dirty after every pass, and without the
# ramp it would never end.
$cluster->start_vm(101, ticks_per_second => 100, dirty_pages_per_tick => 128, dirty_bytes => 2 * 1024 ** 2,
    config => { migrate_speed => 4, migrate_downtime => '0.05' });
$task = $cluster->wait_for($cluster->start_migration(101));
@messages = SwitchoverTest::Cluster::messages_of($task);
is($task->{exit}, 0, 'a VM that dirties lots of memory moves too') or diag(@messages);
my @limits = map { /\Aauto-increased downtime to continue migration: (\d+) ms\z/ ? $1 : () } @messages;
cmp_ok(scalar @limits, '>', 0, 'with a limit that was raised');
is_deeply(\@limits, [map { 50 * 2 ** $_ } 1 .. @limits], 'and doubled each time');
guest_moved($cluster, 101);
gap_of($cluster, 101, 'dirtying lots of memory');

done_testing();
