# VM configurations in the cluster's folder: one file a VM, in the folder of the node that owns it.
package PVE::QemuConfig;

use strict;
use warnings;

use PVE::Tools qw(lock_file nodename read_file untaint write_file);

# The cluster file system, the same on both nodes.
our $CLUSTER_FOLDER = '/run/pve';

my $LOCK_TIMEOUT_SECONDS = 60;
my $KEY = qr/[a-z][a-z0-9_]*/;
my $VALUE = qr/[A-Za-z0-9_.,:=\/+ -]*/;

sub config_file {
    my ($class, $vmid, $node) = @_;
    $node //= nodename();
    return "$CLUSTER_FOLDER/nodes/$node/qemu-server/$vmid.conf";
}

sub load_config {
    my ($class, $vmid, $node) = @_;
    my $path = $class->config_file($vmid, $node);
    die "configuration file '$path' does not exist\n" if !-f $path;
    my %config;
    for my $line (split /\n/, read_file($path)) {
        next if $line =~ /\A\s*(?:#.*)?\z/;
        my ($key, $value) = $line =~ /\A($KEY): *($VALUE)\z/;
        die "'$path' has a line that is not understood: $line\n" if !defined $key;
        $config{$key} = $value;
    }
    return \%config;
}

sub write_config {
    my ($class, $vmid, $config) = @_;
    my $text = join('', map { "$_: $config->{$_}\n" } sort keys %$config);
    write_file($class->config_file($vmid), $text);
    return;
}

sub lock_config {
    my ($class, $vmid, $code) = @_;
    return lock_file("/run/lock/qemu-server/lock-$vmid.conf", $LOCK_TIMEOUT_SECONDS, $code);
}

sub check_lock {
    my ($class, $config) = @_;
    die "VM is locked ($config->{lock})\n" if $config->{lock};
    return;
}

sub set_lock {
    my ($class, $vmid, $lock) = @_;
    return $class->lock_config($vmid, sub {
        my $config = $class->load_config($vmid);
        $class->check_lock($config);
        $config->{lock} = $lock;
        $class->write_config($vmid, $config);
        return $config;
    });
}

sub remove_lock {
    my ($class, $vmid, $lock) = @_;
    return $class->lock_config($vmid, sub {
        my $config = $class->load_config($vmid);
        die "VM is not locked ($lock)\n" if ($config->{lock} // '') ne $lock;
        delete $config->{lock};
        $class->write_config($vmid, $config);
        return $config;
    });
}

# The ownership hand-over: from here on the other node may start this VM, and this one may not.
sub move_config_to_node {
    my ($class, $vmid, $node) = @_;
    $node = untaint($node, qr/[a-z][a-z0-9-]*/, 'node name');
    my $from = $class->config_file($vmid);
    my $to = $class->config_file($vmid, $node);
    rename($from, $to) or die "can't move '$from' to '$to': $!\n";
    return;
}

1;
