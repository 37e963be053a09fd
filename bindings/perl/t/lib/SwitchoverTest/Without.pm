# Removes functions of the stack, as another release of it may have them under other names.
package SwitchoverTest::Without;

use strict;
use warnings;

use PVE::QemuMigrate;

sub import {
    my (undef, @names) = @_;
    for my $name (@names) {
        my ($package, $function) = $name =~ /\A(.+)::([^:]+)\z/;
        no strict 'refs';
        delete ${"${package}::"}{$function} // die "there is no $name\n";
    }
    return;
}

1;
