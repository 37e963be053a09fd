# A signal at any point of a migration that the drop-in carries out: exactly one owner, nothing left.
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

my ($LAST_VERSION) = reverse SwitchoverTest::QEMU::versions();
my %IDLE = (version => '7.2');
my %DISK_7_2 = (version => '7.2', disk_bytes => 16 * 1024 ** 2);
my %DISK_LAST = (version => $LAST_VERSION, disk_bytes => 16 * 1024 ** 2,
    $LAST_VERSION eq '10.0' ? (config => { machine => 'pc-i440fx-10.0' }) : ());

my $RUN = 'QEMU::Switchover::QemuServer::Run';
my $BEGIN = 'QEMU::Switchover::QemuServer::Forward::start';

# Before the migration is beyond recall the guest stays; once phase 3 has begun it goes. Those with a mark
# at their end are tried every day.
my @POINTS = (
    ['TERM', "before,${RUN}::_start", 'stays', \%IDLE],
    ['INT', "before,$BEGIN", 'stays', \%IDLE, 'daily'],
    ['QUIT', "after,$BEGIN", 'stays', \%DISK_7_2],
    ['TERM', 'phase,connecting', 'stays', \%IDLE],
    ['HUP', 'phase,preflight', 'stays', \%IDLE],
    ['TERM', 'phase,preparing', 'stays', \%IDLE],
    ['PIPE', 'phase,mirroring', 'stays', \%DISK_LAST],
    ['TERM', 'phase,transferring', 'stays', \%IDLE],
    ['INT', 'phase,transferring', 'stays', \%DISK_7_2],
    ['TERM', "before,${RUN}::wait_for_news", 'stays', \%DISK_LAST],
    ['TERM', 'phase,switching-over', 'stays', \%IDLE, 'daily'],
    ['QUIT', 'phase,switching-over', 'stays', \%DISK_7_2],
    ['INT', 'phase,switching-over', 'stays', \%DISK_LAST, 'daily'],
    ['TERM', 'phase,handing-over', 'stays', \%IDLE],
    ['HUP', 'phase,handing-over', 'stays', \%DISK_LAST, 'daily'],
    ['TERM', "after,${RUN}::_offer", 'stays', \%IDLE],
    ['INT', "after,${RUN}::_report", 'stays', \%DISK_7_2],
    ['TERM', "before,${RUN}::mirrors_have_ended", 'stays', \%DISK_LAST, 'daily'],
    ['TERM', 'before,PVE::QemuConfig::move_config_to_node', 'goes', \%IDLE, 'daily'],
    ['INT', "before,${RUN}::resumed", 'goes', \%DISK_7_2],
    ['TERM', "before,${RUN}::conclude", 'goes', \%IDLE],
);
cmp_ok(scalar @POINTS, '>=', 20, 'there are many points');

my $cluster = SwitchoverTest::Cluster->new(drop_in => {});
my $vmid = 100;
# How often a signal came when QEMU alone could decide, and the log said that it waits.
my $held_back = 0;

for my $point (grep { $_->[4] || SwitchoverTest::Extent::is_whole() } @POINTS) {
    my ($signal, $where, $what_becomes, $vm) = @$point;
    $cluster->also_load('-I', "$FindBin::Bin/lib", "-MSwitchoverTest::SignalAt=$signal,$where");
    my $name = "QEMU $vm->{version}" . ($vm->{disk_bytes} ? ', disk' : '') . ": $signal $where";
    subtest $name => sub {
        $cluster->start_vm($vmid, %$vm);
        my $task = $cluster->wait_for($cluster->start_migration($vmid));
        my $log = SwitchoverTest::Cluster::log_of($task);
        like($log, qr/^SignalAt: $signal$/m, 'it was sent');
        if ($what_becomes eq 'stays') {
            like($log, qr/phase2 failed: interrupted by signal$/m, 'the stack is interrupted');
            like($log, qr/aborting phase 2 - cleaning up$/m, 'its own cleanup runs');
            guest_stayed($cluster, $vmid);
        } else {
            like($log, qr/a signal arrived while the migration could not be interrupted$/m,
                'the stack had delayed it');
            guest_moved($cluster, $vmid);
        }
        $held_back++ if $log =~ /switchover: the switchover is under way: the interruption waits for QEMU$/m;
        unlike($log, qr/cleanup failed/, 'no cleanup fails');
        is_deeply([glob($cluster->path('alpha', 'switchover/*'))], [], 'no forward is left');
        is_deeply([forwards()], [], 'and no ssh');
        diag($log) if !Test::More->builder->is_passing();
        $cluster->remove_vm($vmid++);
    };
}

cmp_ok($held_back, '>', 0, 'a signal in the switchover is held back, and the log says so')
    if SwitchoverTest::Extent::is_whole();

subtest 'after all that the next attempt succeeds' => sub {
    $cluster->also_load();
    $cluster->start_vm($vmid, %DISK_7_2);
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    is($task->{exit}, 0, 'the task succeeds') or diag(SwitchoverTest::Cluster::log_of($task));
    guest_moved($cluster, $vmid);
};

# Processes of the cluster that hold a forward of a monitor.
sub forwards {
    my $namespace = readlink("/proc/$cluster->{nodes}{alpha}{pid}/ns/pid");
    my @found;
    for my $process (glob('/proc/[0-9]*')) {
        open(my $file, '<', "$process/cmdline") or next;
        my $line = <$file> // '';
        push @found, $line if $line =~ m{/run/switchover/forward-}
            && (readlink("$process/ns/pid") // '') eq $namespace;
    }
    return @found;
}

done_testing();
