# The guest first, then its configuration: for clusters that chose it.
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
my $cluster = SwitchoverTest::Cluster->new(drop_in => { hand_over => 'after-resume' });

# The parts of the ledger of a VM with a disk, each with its length; others may stand between.
my $LEDGER = join('.*, ', map { "$_ [\\d.]+ ms" } 'drain of the mirrors',
    'last RAM and device state', 'hand-over', 'grant on its way', 'activation');

for my $version (SwitchoverTest::Extent::versions()) {
    my $vmid = $version eq '7.2' ? 100 : 110;
    my %machine = $version eq '7.2' ? () : (machine => 'pc-i440fx-10.0');
    $cluster->start_vm($vmid, version => $version, disk_bytes => 32 * 1024 ** 2, config => \%machine);
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    is($task->{exit}, 0, "QEMU $version: the task succeeds") or diag(map { "$_\n" } @messages);
    ok(log_in_order(\@messages, qr/\Amigration status: completed\z/,
        qr/\Aswitchover: vm $vmid: completed; blackout [\d.]+ ms; owner: target, guest running/,
        qr/\Aswitchover: ledger: $LEDGER\z/),
        "QEMU $version: the ledger is the library's own");
    guest_moved($cluster, $vmid);
    gap_of($cluster, $vmid, "QEMU $version, one disk, after-resume");
    $cluster->remove_vm($vmid);
}

# A migration while the folder that the configuration would move to is gone; the messages of its task.
sub migrate_without_folder {
    my ($cluster, $vmid) = @_;
    $cluster->start_vm($vmid, disk_bytes => 32 * 1024 ** 2);
    my $folder = $cluster->folder() . '/pve/nodes/beta/qemu-server';
    rename($folder, "$folder.gone") or die "can't rename '$folder': $!\n";
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    rename("$folder.gone", $folder) or die "can't rename '$folder.gone': $!\n";
    isnt($task->{exit}, 0, 'the task fails');
    return SwitchoverTest::Cluster::messages_of($task);
}

my $NOT_MOVED = qr/can't move '\S+' to '\S+': No such file or directory/;

subtest 'a configuration that does not move' => sub {
    my @messages = migrate_without_folder($cluster, 120);
    ok(log_in_order(\@messages,
        qr/\AERROR: switchover: the guest runs on node 'beta', its QEMU here is ended\z/,
        qr/\AERROR: switchover: its configuration is still on this node \($NOT_MOVED\): .* move 120\.conf to the folder of node 'beta'\z/,
        qr/\AERROR: phase3_cleanup failed: $NOT_MOVED\z/), 'the log says where the guest is')
        or diag(map { "$_\n" } @messages);
    my ($source, $target) = map { $cluster->ticks(120, $_) } qw(alpha beta);
    $target->wait_for(200);
    is(SwitchoverTest::Ticks::interruption($source, $target), undef, 'the guest runs on beta, alone');
    is($cluster->qmp('beta', 120, 'query-status')->{status}, 'running', 'and says so');
    ok(!eval { $cluster->qmp('alpha', 120, 'query-status') }, 'the source is ended');
    my $address = $cluster->hardware_address(120);
    like($cluster->forwarding('beta'), qr/^$address$/m, 'its forwarding entry is on beta');
    ok(defined $cluster->config('alpha', 120), 'its configuration has not left alpha');
};

subtest 'the way that is written in the log' => sub {
    my $folder = $cluster->folder() . '/pve/nodes';
    rename("$folder/alpha/qemu-server/120.conf", "$folder/beta/qemu-server/120.conf");
    $cluster->run('beta', 'qm', 'unlock', 120);
    is_deeply([$cluster->run('beta', 'qm', 'resume', 120)], [], 'leads out of it');
    $cluster->remove_vm(120);
};

subtest 'what would let the source run is refused' => sub {
    $cluster->also_load('-I', "$FindBin::Bin/lib", "-MSwitchoverTest::Careless");
    $cluster->start_vm(121);
    my $task = $cluster->wait_for($cluster->start_migration(121));
    my $log = SwitchoverTest::Cluster::log_of($task);
    like($log, qr/Careless: $_: refused: the guest runs on the other node/, "$_ is")
        for qw(cont migrate_cancel);
    $cluster->ticks(121, 'beta')->wait_for(200);
    is(SwitchoverTest::Ticks::interruption(map { $cluster->ticks(121, $_) } qw(alpha beta)), undef,
        'the guest runs on beta, alone');
};

# The default: the guest does not run before its configuration has moved.
my $default = SwitchoverTest::Cluster->new(drop_in => {});
subtest 'the default, and a configuration that does not move' => sub {
    my @messages = migrate_without_folder($default, 130);
    ok(log_in_order(\@messages,
        qr/\AERROR: switchover: the configuration did not move \($NOT_MOVED\): the guest stands/,
        qr/\AERROR: switchover: vm 130: .*owner: unknown, .*switchover recover\z/), 'the log says how it is');
    ok($default->ticks(130, 'beta')->never_ran($default->ticks(130, 'alpha')), 'the guest has not run on beta');
    is($default->qmp('alpha', 130, 'query-status')->{status}, 'postmigrate', 'the source stands');
    is($default->qmp('beta', 130, 'query-status')->{status}, 'paused', 'the target stands');
    is_deeply($default->qmp('alpha', 130, 'query-block-jobs'), [], 'no mirror is left');
};

done_testing();
