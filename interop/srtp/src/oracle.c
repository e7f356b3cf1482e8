/*
 * libsrtp2 as an oracle: reads commands from standard input, answers on standard output.
 *
 * 'K' profile key_len key salt_len salt n ids[n]   new sessions; profile as below; answers 1 byte, 0 if well
 * 'p' / 'u' len(2, big endian) bytes               protect / unprotect RTP
 * 'P' / 'U' len(2, big endian) bytes               protect / unprotect RTCP
 *     answers status(1) len(2, big endian) bytes
 *
 * Profiles: 0 AES_CM_128_80, 1 AES_CM_128_32, 2 AES_CM_256_80, 3 AES_CM_256_32, 4 GCM_128, 5 GCM_256.
 */
#include <srtp2/srtp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(void *to, size_t len)
{
    if (len != 0 && fread(to, len, 1, stdin) != 1) {
        exit(0);
    }
}

static unsigned byte(void)
{
    unsigned char b;
    need(&b, 1);
    return b;
}

static int set_policies(srtp_policy_t *policy, unsigned profile)
{
    switch (profile) {
    case 0:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy->rtp);
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy->rtcp);
        return 0;
    case 1:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&policy->rtp);
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy->rtcp);
        return 0;
    case 2:
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&policy->rtp);
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&policy->rtcp);
        return 0;
    case 3:
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32(&policy->rtp);
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&policy->rtcp);
        return 0;
    case 4:
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy->rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy->rtcp);
        return 0;
    case 5:
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy->rtp);
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy->rtcp);
        return 0;
    }
    return 1;
}

int main(void)
{
    static _Alignas(16) unsigned char packet[65536 + SRTP_MAX_TRAILER_LEN];
    srtp_t out = NULL, in = NULL;

    if (srtp_init() != srtp_err_status_ok) {
        return 1;
    }
    for (;;) {
        unsigned command = byte();
        if (command == 'K') {
            unsigned char key[96];
            int ids[256];
            srtp_policy_t policy;
            int failed;
            memset(&policy, 0, sizeof policy);
            failed = set_policies(&policy, byte());
            unsigned key_len = byte();
            need(key, key_len);
            unsigned salt_len = byte();
            need(key + key_len, salt_len);
            unsigned n = byte();
            for (unsigned i = 0; i < n; i++) {
                ids[i] = (int)byte();
            }
            policy.key = key;
            policy.window_size = 1024;
            policy.enc_xtn_hdr = n ? ids : NULL;
            policy.enc_xtn_hdr_count = (int)n;
            if (out) {
                srtp_dealloc(out);
                srtp_dealloc(in);
                out = in = NULL;
            }
            policy.ssrc.type = ssrc_any_outbound;
            failed = failed || srtp_create(&out, &policy) != srtp_err_status_ok;
            policy.ssrc.type = ssrc_any_inbound;
            failed = failed || srtp_create(&in, &policy) != srtp_err_status_ok;
            putchar(failed);
        } else {
            int len = (int)(byte() << 8);
            len |= (int)byte();
            need(packet, (size_t)len);
            srtp_err_status_t status;
            switch (command) {
            case 'p':
                status = srtp_protect(out, packet, &len);
                break;
            case 'u':
                status = srtp_unprotect(in, packet, &len);
                break;
            case 'P':
                status = srtp_protect_rtcp(out, packet, &len);
                break;
            case 'U':
                status = srtp_unprotect_rtcp(in, packet, &len);
                break;
            default:
                return 1;
            }
            if (status != srtp_err_status_ok) {
                len = 0;
            }
            putchar((int)status);
            putchar(len >> 8);
            putchar(len & 255);
            fwrite(packet, 1, (size_t)len, stdout);
        }
        fflush(stdout);
    }
}
