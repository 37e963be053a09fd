package QEMU::Switchover::JSON;

use strict;
use warnings;

=encoding utf8

=head1 NAME

QEMU::Switchover::JSON - the JSON of QMP, with whatever module is installed

=head1 DESCRIPTION

Internal. Takes JSON::XS where it is installed, else JSON::PP, and only when it is first needed.
Integers of 64 bits stay what they are. Under C<-T> the decoded texts are as tainted as the text
was.

=head1 FUNCTIONS

=head2 encode

The JSON text of a value, as characters.

=head2 decode

The value of a JSON text. QEMU's own words come as true and false objects of the module.

=cut

my $codec;

sub _codec {
    return $codec //= do {
        my $module = eval { require JSON::XS; 'JSON::XS' } // do { require JSON::PP; 'JSON::PP' };
        $module->new->allow_nonref;
    };
}

sub encode { return _codec()->encode($_[0]) }

sub decode {
    my ($text) = @_;
    my $value = _codec()->decode($text);
    return ${^TAINT} ? _tainted($value, substr($text, 0, 0)) : $value;
}

# The same value with every text in it tainted by the empty one.
sub _tainted {
    my ($value, $taint) = @_;
    return { map { $_ => _tainted($value->{$_}, $taint) } keys %$value } if ref $value eq 'HASH';
    return [map { _tainted($_, $taint) } @$value] if ref $value eq 'ARRAY';
    return $value if ref $value || !defined $value || $value =~ /\A-?[0-9]+(?:\.[0-9]+)?\z/;
    return $value . $taint;
}

1;
