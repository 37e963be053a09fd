# The task that moves a VM, as the command line and the daemon start it.
package PVE::QemuMigrateTask;

use strict;
use warnings;

use PVE::QemuConfig;
use PVE::QemuMigrate;
use PVE::Tools qw(read_file untaint);

# The address of a node, from the cluster's list of members: "NAME ADDRESS" a line.
sub node_address {
    my ($node) = @_;
    for my $line (split /\n/, read_file("$PVE::QemuConfig::CLUSTER_FOLDER/members")) {
        my ($name, $address) = $line =~ /\A(\S+) ([0-9.]+)\z/ or next;
        return $address if $name eq $node;
    }
    die "no such node '$node'\n";
}

sub run {
    my ($vmid, $node, $options) = @_;
    $vmid = untaint($vmid, qr/[1-9][0-9]{2,8}/, 'VM number');
    $node = untaint($node, qr/[a-z][a-z0-9-]*/, 'node name');
    PVE::QemuMigrate->migrate($node, node_address($node), $vmid, $options);
    return;
}

1;
