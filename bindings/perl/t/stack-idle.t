# An idle VM on shared storage through the whole stack.
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

for my $version (SwitchoverTest::QEMU::versions()) {
    my $vmid = $version eq '7.2' ? 100 : 110;
    $cluster->start_vm($vmid, version => $version);
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    is($task->{exit}, 0, "QEMU $version: the task succeeds") or diag(@messages);
    ok(log_in_order(\@messages,
        qr/\Astart migrate command to unix:\/var\/run\/qemu-server\/$vmid\.migrate\z/,
        qr/\Aaverage migration speed: [\d.]+ [KMGT]?i?B\/s - downtime \d+ ms\z/,
        qr/\Amigration completed, transferred [\d.]+ [KMGT]?i?B VM-state\z/,
        qr/\Amigration status: completed\z/,
        qr/\Amigration done after \d+ s\z/), "QEMU $version: its log is in order");
    guest_moved($cluster, $vmid);
    gap_of($cluster, $vmid, "QEMU $version, idle (the facts: about 970)");
    $cluster->remove_vm($vmid);
}

subtest 'a VM that a node cannot take is refused before anything is touched' => sub {
    $cluster->start_vm(120);
    $cluster->kill_node('beta');
    my $task = $cluster->wait_for($cluster->start_migration(120));
    isnt($task->{exit}, 0, 'the task fails');
    like(SwitchoverTest::Cluster::log_of($task), qr/node 'beta' can't be reached/, 'and says why');
    unlike($cluster->config('alpha', 120), qr/^lock:/m, 'the VM is not locked');
    $cluster->ticks(120, 'alpha')->wait_for(200);
    is(SwitchoverTest::Ticks::interruption($cluster->ticks(120, 'alpha')), undef, 'and runs on');
};

$cluster->end();
ok(!-e $cluster->folder(), 'the cluster leaves no file behind');
done_testing();
