# Tries to let the source run again when the configuration has moved, in the process that it is loaded
# into.
package SwitchoverTest::Careless;

use strict;
use warnings;

use PVE::QemuMigrate;
use QEMU::Switchover::QemuServer::Run;

my $original = \&QEMU::Switchover::QemuServer::Run::moved;

no warnings 'redefine';
*QEMU::Switchover::QemuServer::Run::moved = sub {
    my ($run, @arguments) = @_;
    for my $command (qw(cont migrate_cancel)) {
        eval { PVE::QemuMigrate::mon_cmd($run->{vmid}, $command) };
        print STDOUT "Careless: $command: $@";
    }
    return $original->($run, @arguments);
};

1;
