/* Just enough of libsrtp2 to be called without its structures. */
#include <srtp2/srtp.h>
#include <stdlib.h>
#include <string.h>

/* key: master key and salt. Profile as in DTLS-SRTP: 1, 7 or 8. */
void *bench_srtp_new(int profile, unsigned char *key, int inbound)
{
    static int ready;
    srtp_policy_t policy;
    srtp_t session;
    if (!ready) {
        srtp_init();
        ready = 1;
    }
    memset(&policy, 0, sizeof policy);
    switch (profile) {
    case 7:
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp);
        break;
    case 8:
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtcp);
        break;
    default:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtp);
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtcp);
    }
    policy.key = key;
    policy.window_size = 1024;
    policy.ssrc.type = inbound ? ssrc_any_inbound : ssrc_any_outbound;
    return srtp_create(&session, &policy) == srtp_err_status_ok ? session : NULL;
}

int bench_srtp_protect(void *session, unsigned char *packet, int len)
{
    return srtp_protect(session, packet, &len) == srtp_err_status_ok ? len : -1;
}

int bench_srtp_unprotect(void *session, unsigned char *packet, int len)
{
    return srtp_unprotect(session, packet, &len) == srtp_err_status_ok ? len : -1;
}
