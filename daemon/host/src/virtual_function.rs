//! What a physical function's driver is told about its virtual functions, by rtnetlink (`rtnetlink(7)`).

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkVfInfo, VfInfo, VfInfoMac, VfInfoVlan};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

/// Says so to the driver of the interface with that index.
pub fn set_address(interface: u32, index: u16, mac: Option<[u8; 6]>, vlan: Option<u16>) -> Result<(), Errno> {
    let message = request(interface, index, mac, vlan);
    let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(failed)?;
    let (answer, _) = socket.recv_from_full().map_err(failed)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(|_| Errno::EBADMSG)?;
    match answer.payload {
        // An acknowledgement is an error without a number.
        NetlinkPayload::Error(error) => match error.raw_code() {
            0 => Ok(()),
            code => Err(Errno::from_raw(code.saturating_neg())),
        },
        _ => Err(Errno::EBADMSG),
    }
}

fn request(interface: u32, index: u16, mac: Option<[u8; 6]>, vlan: Option<u16>) -> NetlinkMessage<RouteNetlinkMessage> {
    let function = u32::from(index);
    let mac = mac.map(|mac| VfInfo::Mac(VfInfoMac::new(function, &mac)));
    // Priority 0: the VLAN says nothing about that.
    let vlan = vlan.map(|vlan| VfInfo::Vlan(VfInfoVlan::new(function, vlan.into(), 0)));
    let mut link = LinkMessage::default();
    link.header.index = interface;
    link.attributes.push(LinkAttribute::VfInfoList(vec![LinkVfInfo(mac.into_iter().chain(vlan).collect())]));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::SetLink(link)));
    message.finalize();
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_the_attributes_that_linux_reads() {
        let message = request(3, 1, Some([2, 0, 0, 0, 0, 7]), Some(100));
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);

        // RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK; struct ifinfomsg with the index.
        assert_eq!(bytes[4..8], [19, 0, 5, 0]);
        assert_eq!(bytes[20..24], [3, 0, 0, 0]);
        // IFLA_VFINFO_LIST { IFLA_VF_INFO { IFLA_VF_MAC, IFLA_VF_VLAN } }, each a length and a kind.
        let kind = |at: usize| u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]) & 0x3fff;
        assert_eq!((kind(32), kind(36), kind(40)), (22, 1, 1));
        assert_eq!(bytes[44..54], [1, 0, 0, 0, 2, 0, 0, 0, 0, 7]);
        assert_eq!((kind(80), &bytes[84..96]), (2, &[1, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0][..]));
    }

    #[test]
    fn interface_that_is_not_there_is_linux_error() {
        // As who may not say so, Linux answers EPERM before it looks.
        let refused = set_address(i32::MAX.unsigned_abs(), 0, Some([2, 0, 0, 0, 0, 1]), None).unwrap_err();

        assert!(matches!(refused, Errno::ENODEV | Errno::EPERM), "{refused}");
    }
}
