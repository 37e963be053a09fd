# What goes wrong once the drop-in has sent `migrate` ends as the stack ends it, with its own words.
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
my $cluster = SwitchoverTest::Cluster->new(drop_in => {});

# A guest that never converges within a test.
my %BUSY = (dirty_pages_per_tick => 8, config => { migrate_speed => 2 });

subtest 'a target that dies while the memory moves' => sub {
    $cluster->start_vm(100, %BUSY);
    my $task = $cluster->start_migration(100);
    $cluster->wait_for_line($task, qr/migration active/);
    $cluster->run('beta', 'sh', '-c', 'kill -9 $(cat /run/qemu-server/100.pid)');
    $cluster->wait_for($task);
    isnt($task->{exit}, 0, 'the task fails');
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    ok(log_in_order(\@messages, qr/\Amigration status error: failed - ./,
        qr/\Aswitchover: vm 100: .*owner: source, guest running/, qr/\AERROR: phase2 failed: aborting\z/,
        qr/\AERROR: migration given up: aborting\z/), 'and says why');
    $cluster->run('beta', 'qm', 'stop', 100);
    guest_stayed($cluster, 100);
};

subtest 'a signal from outside while the memory moves' => sub {
    my $task = $cluster->start_migration(100);
    $cluster->wait_for_line($task, qr/migration active/);
    $cluster->signal_worker($task, 'TERM');
    $cluster->wait_for($task);
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    ok(log_in_order(\@messages, qr/\AERROR: phase2 failed: interrupted by signal\z/,
        qr/\Aaborting phase 2 - cleaning up\z/), 'the stack is interrupted') or diag(map { "$_\n" } @messages);
    guest_stayed($cluster, 100);
    $cluster->remove_vm(100);
};

subtest 'a worker that is killed' => sub {
    $cluster->start_vm(101, %BUSY);
    my $task = $cluster->start_migration(101);
    $cluster->wait_for_line($task, qr/migration active/);
    $cluster->signal_worker($task, 'KILL');
    $cluster->loop()->run_until(60, 'the end of its ssh', sub {
        return !eval { $cluster->run('alpha', 'pgrep', '-f', 'ssh .*/run/switchover/forward-') };
    });
    pass('leaves no ssh of ours');
    is($cluster->qmp('alpha', 101, 'query-migrate')->{status}, 'active', 'QEMU goes on by itself');
    $cluster->remove_vm(101);
};

subtest 'a mirror whose target goes away' => sub {
    $cluster->start_vm(102, disk_bytes => 16 * 1024 ** 2);
    my $task = $cluster->start_migration(102);
    $cluster->wait_for_line($task, qr/all disks are in sync/);
    $cluster->qmp('beta', 102, 'nbd-server-stop');
    $cluster->wait_for($task);
    isnt($task->{exit}, 0, 'the task fails');
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    # QEMU notices at STOP, and fails the migration, or when the mirror is told to end.
    ok(log_in_order(\@messages, qr/\Aswitchover: vm 102: .*owner: source, guest running/,
        qr/\AERROR: phase2 failed: (?:aborting\z|Failed to complete storage migration: .)/,
        qr/\Aaborting phase 2 - cleaning up\z/), 'with the words of the stack');
    unlike("@messages", qr/cleanup failed/, 'its cleanup has no trouble');
    guest_stayed($cluster, 102);
    $cluster->remove_vm(102);
};

subtest 'a whole target node that dies while the memory moves' => sub {
    $cluster->start_vm(105, %BUSY);
    my $task = $cluster->start_migration(105);
    $cluster->wait_for_line($task, qr/migration active/);
    $cluster->kill_node('beta');
    $cluster->wait_for($task);
    isnt($task->{exit}, 0, 'the task fails');
    $cluster->ticks(105, 'alpha')->wait_for(200);
    is(SwitchoverTest::Ticks::interruption($cluster->ticks(105, 'alpha')), undef,
        'the guest runs on at the source, without a tick lost');
    unlike($cluster->config('alpha', 105), qr/^lock:/m, 'it is unlocked');
};

done_testing();
