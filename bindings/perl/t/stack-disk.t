# A VM with a local disk: mirrored, ended, resumed as the stack does it.
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
my $DISK_BYTES = 64 * 1024 ** 2;

# From machine 10.0 on the drives are block nodes, and the mirrors name them.
for my $version (SwitchoverTest::QEMU::versions()) {
    my $vmid = $version eq '7.2' ? 100 : 110;
    my %machine = $version eq '7.2' ? () : (machine => 'pc-i440fx-10.0');
    $cluster->start_vm($vmid, version => $version, disk_bytes => $DISK_BYTES, config => \%machine);
    my $path = $cluster->path('alpha', "stack/images/$vmid/vm-$vmid-disk-0.raw");
    my $original = "$path.original";
    link($path, $original) or die "can't link '$path': $!\n";
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    is($task->{exit}, 0, "QEMU $version: the task succeeds") or diag(@messages);
    ok(log_in_order(\@messages,
        qr/\Amirroring scsi0 to nbd:unix:\/var\/run\/qemu-server\/${vmid}_nbd\.migrate:exportname=drive-scsi0\z/,
        qr/\Aall disks are in sync\z/, qr/\Astart migrate command to /,
        qr/\Amigration status: completed\z/), "QEMU $version: its log is in order");
    guest_moved($cluster, $vmid);
    my $copy = $cluster->path('beta', "stack/images/$vmid/vm-$vmid-disk-0.raw");
    is(system('cmp', '-s', $original, $copy), 0, "QEMU $version: the disk arrived whole");
    ok(!-e $path, "QEMU $version: the source's volume is freed");
    my $gap = gap_of($cluster, $vmid, "QEMU $version, one disk (the facts: 3600 to 4400)");
    cmp_ok($gap, '>=', 2000, "QEMU $version: the guest waits through the sleeps of the mirrors");
    $cluster->remove_vm($vmid);
}

done_testing();
