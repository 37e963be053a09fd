# A migration that is interrupted, or whose target dies: the guest goes on at the source, and
# another attempt succeeds.
use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;
use SwitchoverTest::Extent;
use SwitchoverTest::StackChecks;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}
my $cluster = SwitchoverTest::Cluster->new();

# A guest that never converges within a test, so that there is time to interrupt it.
my %BUSY = (dirty_pages_per_tick => 8, config => { migrate_speed => 2 });
my %DISK = (disk_bytes => 64 * 1024 ** 2);

# A start that comes after those who wanted it have given up.
subtest 'a start whose caller has gone' => sub {
    $cluster->start_vm(100);
    my $start = 'pipe(my $read, my $write); open(STDOUT, ">&", $write); close($read);'
        . ' system(qw(qm start 100 --migratedfrom alpha)); exit(!$?)';
    is_deeply([$cluster->run('beta', 'perl', '-e', $start)], ["whoever wanted VM 100 has gone"], 'is refused');
    is_deeply([$cluster->run_files('beta', 100)], [], 'and starts nothing');
    $cluster->remove_vm(100);
};

sub interrupted {
    my ($vmid, $what, $line, $signal, %vm) = @_;
    subtest $what => sub {
        $cluster->start_vm($vmid, %vm);
        my $task = $cluster->start_migration($vmid);
        $cluster->wait_for_line($task, $line);
        $cluster->signal_worker($task, $signal);
        $cluster->wait_for($task);
        isnt($task->{exit}, 0, 'the task fails');
        my @messages = SwitchoverTest::Cluster::messages_of($task);
        ok(log_in_order(\@messages, qr/\AERROR: phase2 failed: .*interrupted by signal\z/,
            qr/\Aaborting phase 2 - cleaning up\z/,
            qr/\AERROR: migration given up: interrupted by signal\z/), 'and says why');
        unlike("@messages", qr/cleanup failed|ended with problems/, 'its cleanup has no trouble');
        guest_stayed($cluster, $vmid);
    };
    return;
}

interrupted(100, 'while the target starts', qr/starting the VM/, 'TERM');
subtest 'the next attempt succeeds' => sub {
    my $task = $cluster->wait_for($cluster->start_migration(100));
    is($task->{exit}, 0, 'the task succeeds') or diag(SwitchoverTest::Cluster::log_of($task));
    guest_moved($cluster, 100);
};
$cluster->remove_vm(100);

if (SwitchoverTest::Extent::is_whole()) {
    interrupted(101, 'while the memory moves', qr/migration active/, 'INT', %BUSY);
    $cluster->remove_vm(101);
}

if (SwitchoverTest::Extent::is_whole()) {
    interrupted(102, 'while the disk is mirrored', qr/mirroring scsi0/, 'HUP', %DISK);
    subtest 'the next attempt succeeds, mirrors included' => sub {
        my $task = $cluster->wait_for($cluster->start_migration(102));
        is($task->{exit}, 0, 'the task succeeds') or diag(SwitchoverTest::Cluster::log_of($task));
        guest_moved($cluster, 102);
    };
    $cluster->remove_vm(102);
}

interrupted(103, 'while the mirrors end, with the source in postmigrate',
    qr/migration status: completed/, 'QUIT', %DISK);
$cluster->remove_vm(103);

subtest 'a target that dies while the memory moves' => sub {
    $cluster->start_vm(104, %BUSY);
    my $task = $cluster->start_migration(104);
    $cluster->wait_for_line($task, qr/migration active/);
    $cluster->run('beta', 'sh', '-c', 'kill -9 $(cat /run/qemu-server/104.pid)');
    $cluster->wait_for($task);
    isnt($task->{exit}, 0, 'the task fails');
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    ok(log_in_order(\@messages, qr/\Amigration status error: failed/,
        qr/\AERROR: phase2 failed: aborting\z/, qr/\AERROR: migration given up: aborting\z/),
        'and says why');
    $cluster->run('beta', 'qm', 'stop', 104);
    guest_stayed($cluster, 104);
    $cluster->remove_vm(104);
} if SwitchoverTest::Extent::is_whole();

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
    ok($cluster->ticks(105, 'beta')->never_ran($cluster->ticks(105, 'alpha')), 'and never at the target');
    unlike($cluster->config('alpha', 105), qr/^lock:/m, 'it is unlocked');
} if SwitchoverTest::Extent::is_whole();

done_testing();
